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
    macs: BTreeSet<MacAddress>,
    fds: BTreeSet<RawFd>,
}

impl Names {
    /// Takes a device's id.
    pub(super) fn take_id(&mut self, field: &str, id: &str) -> Result<(), ConfigError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if id.is_empty() || id.len() > 64 || !id.chars().all(plain) {
            return Err(refuse(
                field,
                format!("{id:?}"),
                "use 1 to 64 letters, digits, `-`, `_` and `.`",
            ));
        }
        if !self.ids.insert(id.to_owned()) {
            return Err(refuse(
                field,
                format!("{id:?}"),
                "another device has this id already",
            ));
        }
        Ok(())
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
