//! What no two devices of a VM may share, and checks that many fields have in common.

use std::collections::BTreeSet;
use std::os::fd::RawFd;
use std::path::Path;

use super::error::{ConfigError, refuse};
use crate::host_file;
use crate::mac::MacAddress;

/// Names, addresses and descriptors that are taken.
#[derive(Debug, Clone, Default)]
pub struct Names {
    ids: BTreeSet<String>,
    ports: BTreeSet<String>,
    macs: BTreeSet<MacAddress>,
    fds: BTreeSet<RawFd>,
}

impl Names {
    /// Takes a device's id.
    pub(super) fn take_id(&mut self, field: &str, id: &str) -> Result<(), ConfigError> {
        take_name(&mut self.ids, field, id, "another device has this id already")
    }

    /// Takes the name of a port of the console.
    pub(super) fn take_port(&mut self, field: &str, name: &str) -> Result<(), ConfigError> {
        take_name(&mut self.ports, field, name, "another port has this name already")
    }

    /// Takes a hardware address.
    pub(super) fn take_mac(&mut self, field: &str, mac: MacAddress) -> Result<(), ConfigError> {
        match self.macs.insert(mac) {
            true => Ok(()),
            false => Err(refuse(field, mac, "another interface has it already")),
        }
    }

    /// Takes the path of something that is opened once: a name, or `fd:N` for an inherited descriptor.
    pub(super) fn take_path(&mut self, field: &str, path: &Path) -> Result<(), ConfigError> {
        if !host_file::is_descriptor(path) {
            return check_path(field, path);
        }
        match host_file::number(path) {
            Some(number) => self.take_fd(field, number),
            None => {
                let problem = "`fd:` is followed by the number of an inherited descriptor; `./fd:...` is a file of this name";
                Err(refuse(field, format!("{path:?}"), problem))
            }
        }
    }

    /// Numbers of the inherited descriptors that are taken.
    pub fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        self.fds.iter().copied()
    }

    /// Takes the number of an inherited descriptor.
    pub(super) fn take_fd(&mut self, field: &str, fd: RawFd) -> Result<(), ConfigError> {
        if fd < 3 {
            let problem = "0, 1 and 2 are the standard streams; pass an inherited descriptor";
            return Err(refuse(field, fd, problem));
        }
        match self.fds.insert(fd) {
            true => Ok(()),
            false => Err(refuse(field, fd, "another part of the VM uses this descriptor")),
        }
    }
}

fn take_name(
    taken: &mut BTreeSet<String>,
    field: &str,
    name: &str,
    problem: &str,
) -> Result<(), ConfigError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let value = format!("{name:?}");
    if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
        let problem = "use 1 to 64 letters, digits, `-`, `_` and `.`";
        return Err(refuse(field, value, problem));
    }
    match taken.insert(name.to_owned()) {
        true => Ok(()),
        false => Err(refuse(field, value, problem)),
    }
}

/// Checks that a path can be one. Descriptors are refused: the field needs a name in a folder.
pub(super) fn check_path(field: &str, path: &Path) -> Result<(), ConfigError> {
    let bytes = path.as_os_str().as_encoded_bytes();
    if bytes.is_empty() || bytes.contains(&0) {
        return Err(refuse(field, format!("{path:?}"), "give the path of a file"));
    }
    if host_file::is_descriptor(path) {
        let problem = "this has to be a path; write `./fd:...` if the file has this name";
        return Err(refuse(field, format!("{path:?}"), problem));
    }
    Ok(())
}
