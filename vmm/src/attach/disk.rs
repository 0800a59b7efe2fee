//! Disks.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use devices::virtio::block::{self, Block};
use devices::virtio::vhost::Profile;

use super::{AttachError, Made, failed, vhost_user};
use crate::config::{DiskConfig, VmConfig};
use crate::host_file::{self, Access};

/// Makes a block device.
pub(super) fn make(config: &VmConfig, disk: &DiskConfig) -> Result<Made, AttachError> {
    if let Some(socket) = &disk.vhost_user {
        let profile = Profile::Block { queues: disk.queues };
        return vhost_user::make(config, &disk.id, "block", socket, profile);
    }
    let path = config.resolve(&disk.path);
    let file = open_disk(&path, disk.read_only).map_err(failed("block", &disk.id, path.display()))?;
    let serial = disk
        .serial
        .clone()
        .unwrap_or_else(|| disk.id.chars().take(20).collect());
    let device_config = block::Config {
        serial,
        read_only: disk.read_only,
        queues: disk.queues,
        ..Default::default()
    };
    let block = Block::new(device_config, file).map_err(failed("block", &disk.id, path.display()))?;
    Ok(Made::new(&disk.id, "block", block))
}

/// Opens a disk and takes a lock on it: two VMs that write to one disk destroy its file system.
fn open_disk(path: &Path, read_only: bool) -> io::Result<File> {
    let access = if read_only {
        Access::Read
    } else {
        Access::ReadWrite
    };
    let file = host_file::open(path, access)?;
    let lock = if read_only { libc::LOCK_SH } else { libc::LOCK_EX };
    // SAFETY: the descriptor is open and the call touches no memory.
    if unsafe { libc::flock(file.as_raw_fd(), lock | libc::LOCK_NB) } != 0 {
        let error = io::Error::last_os_error();
        if error.kind() == io::ErrorKind::WouldBlock {
            return Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "another VM or program uses it",
            ));
        }
        return Err(error);
    }
    Ok(file)
}
