//! The run directory of one container: the names of its files, and writing them so that a reader sees all or nothing.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// What the container is made from; written by the daemon.
pub const SPEC: &str = "spec.json";
/// The monitor's identity; exists once the control socket accepts.
pub const PID: &str = "pid.json";
/// Init process and cgroup of the container.
pub const CONTAINER: &str = "container.json";
/// How the container ended; the monitor's last act.
pub const EXIT: &str = "exit.json";
/// HTTP control socket.
pub const CONTROL_SOCKET: &str = "control.sock";
/// Raw byte stream of the console.
pub const CONSOLE_SOCKET: &str = "console.sock";

/// Replaces `dir/name` by the document: written beside it, made durable, then renamed.
pub fn write_document(dir: &Path, name: &str, value: &impl Serialize, durable: bool) -> Result<()> {
    let path = dir.join(name);
    let temporary = dir.join(format!(".{name}.tmp"));
    let text = serde_json::to_vec(value).map_err(|source| Error::Document {
        path: path.clone(),
        source,
    })?;
    let write = || {
        let mut file = fs::File::create(&temporary)?;
        file.write_all(&text)?;
        if durable {
            file.sync_all()?;
        }
        fs::rename(&temporary, &path)?;
        if durable {
            fs::File::open(dir)?.sync_all()?;
        }
        Ok(())
    };
    write().map_err(|source: std::io::Error| Error::file("write", &path, source))
}

/// Reads `dir/name`; `None` when it does not exist.
pub fn read_document<T: DeserializeOwned>(dir: &Path, name: &str) -> Result<Option<T>> {
    let path = dir.join(name);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::file("read", path, source)),
    };
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|source| Error::Document { path, source })
}

/// Removes a file that may not exist.
pub(crate) fn remove(path: PathBuf) -> Result<()> {
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::file("remove", path, error)),
        _ => Ok(()),
    }
}

/// The cgroup of the container whose run directory this is: readable by people through the name, and unlike that of an instance
/// of the same name under another state directory.
pub fn cgroup_name(name: &str, dir: &Path) -> String {
    let full = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_path_buf());
    // FNV-1a: short, and the same in every release, which `std`'s hasher does not promise.
    let hash = full
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    format!("virga/{name}-{:08x}", (hash ^ (hash >> 32)) as u32)
}
