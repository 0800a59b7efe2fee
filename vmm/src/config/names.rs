//! What no two devices of a VM may share, and checks that many fields have in common.

use std::collections::BTreeSet;
use std::os::fd::RawFd;
use std::path::Path;

use super::error::{ConfigError, refuse};
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

    /// Takes the number of an inherited descriptor.
    pub(super) fn take_fd(&mut self, field: &str, fd: RawFd) -> Result<(), ConfigError> {
        if fd < 3 {
            let problem = "0, 1 and 2 are the standard streams; pass an inherited descriptor";
            return Err(refuse(field, fd, problem));
        }
        match self.fds.insert(fd) {
            true => Ok(()),
            false => Err(refuse(field, fd, "another device uses this descriptor")),
        }
    }
}

/// Checks that a path can be one.
pub(super) fn check_path(field: &str, path: &Path) -> Result<(), ConfigError> {
    let bytes = path.as_os_str().as_encoded_bytes();
    if bytes.is_empty() || bytes.contains(&0) {
        return Err(refuse(field, format!("{path:?}"), "give the path of a file"));
    }
    Ok(())
}
