//! What can be done to an instance: state changes, commands, consoles.

use serde::{Deserialize, Serialize};

use crate::{InstanceSource, Map, null_default};

/// A change of an instance's state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceStatePut {
    /// `start`, `stop`, `restart`, `freeze` or `unfreeze`.
    #[serde(default, deserialize_with = "null_default")]
    pub action: String,
    /// Seconds to wait for a clean end; -1 for the default.
    #[serde(default, deserialize_with = "null_default")]
    pub timeout: i64,
    /// Whether not to wait for a clean end.
    #[serde(default, deserialize_with = "null_default")]
    pub force: bool,
    /// Whether to save or restore the running state.
    #[serde(default, deserialize_with = "null_default")]
    pub stateful: bool,
}

/// A change of the state of all instances of a project.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstancesPut {
    /// The change.
    #[serde(default)]
    pub state: Option<InstanceStatePut>,
}

/// A command to run in an instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceExecPost {
    /// The command and its arguments.
    #[serde(default, deserialize_with = "null_default")]
    pub command: Vec<String>,
    /// Whether to wait for the client's websockets before the command starts.
    #[serde(rename = "wait-for-websocket", default, deserialize_with = "null_default")]
    pub wait_for_websocket: bool,
    /// Whether it gets a terminal.
    #[serde(default, deserialize_with = "null_default")]
    pub interactive: bool,
    /// Environment variables.
    #[serde(default, deserialize_with = "null_default")]
    pub environment: Map,
    /// Columns of the terminal.
    #[serde(default, deserialize_with = "null_default")]
    pub width: u16,
    /// Rows of the terminal.
    #[serde(default, deserialize_with = "null_default")]
    pub height: u16,
    /// Whether to keep its output for later.
    #[serde(rename = "record-output", default, deserialize_with = "null_default")]
    pub record_output: bool,
    /// User id.
    #[serde(default, deserialize_with = "null_default")]
    pub user: u32,
    /// Group id.
    #[serde(default, deserialize_with = "null_default")]
    pub group: u32,
    /// Working directory.
    #[serde(default, deserialize_with = "null_default")]
    pub cwd: String,
}

/// What a client sends over a command's control websocket.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceExecControl {
    /// `window-resize` or `signal`.
    pub command: String,
    /// `width` and `height`.
    #[serde(default, deserialize_with = "null_default")]
    pub args: Map,
    /// The signal.
    #[serde(default, deserialize_with = "null_default")]
    pub signal: i32,
}

/// A console to attach to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceConsolePost {
    /// Columns.
    #[serde(default, deserialize_with = "null_default")]
    pub width: u16,
    /// Rows.
    #[serde(default, deserialize_with = "null_default")]
    pub height: u16,
    /// `console` or `vga`.
    #[serde(rename = "type", default, deserialize_with = "null_default")]
    pub kind: String,
    /// Whether to throw out whoever is attached.
    #[serde(default, deserialize_with = "null_default")]
    pub force: bool,
}

/// A new root file system for an instance.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct InstanceRebuildPost {
    /// What it is made from.
    #[serde(default, deserialize_with = "null_default")]
    pub source: InstanceSource,
}
