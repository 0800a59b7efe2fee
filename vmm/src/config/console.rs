//! Further ports of the virtio console.

use std::path::PathBuf;

use devices::virtio::console::MAX_PORTS;
use serde::{Deserialize, Serialize};

use super::error::{ConfigError, refuse};
use super::names::Names;

/// A port besides `hvc0`: a channel to programs of the guest, or another terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsolePortConfig {
    /// What the guest knows it by: Linux has it in `/sys/class/virtio-ports/*/name`, and udev makes
    /// `/dev/virtio-ports/NAME` of it.
    pub name: String,
    /// Unix socket on which clients connect, one at a time; a path, or `fd:N` for one that listens.
    pub socket: PathBuf,
    /// Whether it is a terminal (`hvc1` and so on), or a channel of bytes.
    #[serde(default)]
    pub terminal: bool,
}

/// Checks the ports of a VM that has a console or not.
pub(super) fn check_ports(
    ports: &[ConsolePortConfig],
    console: bool,
    names: &mut Names,
) -> Result<(), ConfigError> {
    if !ports.is_empty() && !console {
        let problem = "`console_ports` belong to the virtio console; set it to true";
        return Err(refuse("console", false, problem));
    }
    // One is the console's own.
    if ports.len() >= MAX_PORTS {
        let problem = format!("at most {} besides the console's own", MAX_PORTS - 1);
        return Err(refuse("console_ports", format!("{} ports", ports.len()), problem));
    }
    for (index, port) in ports.iter().enumerate() {
        let field = format!("console_ports[{index}]");
        names.take_port(&format!("{field}.name"), &port.name)?;
        names.take_path(&format!("{field}.socket"), &port.socket)?;
    }
    Ok(())
}
