//! Disks of virtual machines: a root file system made bootable as a microVM's
//! disk, and disk images turned to raw.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;

use crate::compression::{Magic, magic_of};
use crate::error::{Error, Result};
use crate::limits::{Budget, Limits, Progress};
use crate::tool::{Tool, run};

const MKFS: Tool = Tool {
    program: "mkfs.ext4",
    package: "e2fsprogs",
};
const QEMU_IMG: Tool = Tool {
    program: "qemu-img",
    package: "qemu-utils",
};

/// Label of a root disk's file system.
const LABEL: &str = "root";

/// Makes an ext4 file system with the tree `rootfs` in the sparse file `disk` of `size` bytes.
///
/// Fails when the tree does not fit, and leaves no file then.
pub fn make_root_disk(rootfs: &Path, disk: &Path, size: u64) -> Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(disk)
        .map_err(Error::io("make", disk))?;
    file.set_len(size).map_err(Error::io("size", disk))?;
    drop(file);
    let mut command = Command::new("mkfs.ext4");
    // Nothing is zeroed that a sparse file already reads as zero; the table of inodes is left to the guest to fill.
    command
        .args([
            "-q",
            "-F",
            "-L",
            LABEL,
            "-m",
            "1",
            "-E",
            "lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0",
        ])
        .arg("-d")
        .arg(rootfs)
        .arg(disk);
    run(MKFS, &mut command, None).inspect_err(|_| {
        // The error that is reported is the first one.
        let _ = fs::remove_file(disk);
    })
}

/// Writes the disk image `source` (qcow2 or raw) as a raw sparse file.
pub fn convert_disk(source: &Path, disk: &Path) -> Result<()> {
    let mut progress = Progress {
        report: &mut |_| {},
        cancel: &AtomicBool::new(false),
    };
    convert_disk_within(source, disk, &mut Budget::new(Limits::default()), &mut progress)
}

/// As [`convert_disk`], within limits and until it is cancelled.
pub(crate) fn convert_disk_within(
    source: &Path,
    disk: &Path,
    budget: &mut Budget,
    progress: &mut Progress<'_>,
) -> Result<()> {
    let format = match magic_of(source)? {
        Magic::Qcow2 => "qcow2",
        Magic::Disk => "raw",
        _ => {
            return Err(Error::invalid(
                source,
                "a disk is qcow2, or raw with a partition table",
            ));
        }
    };
    budget.bytes(if format == "qcow2" {
        qcow2_size(source)?
    } else {
        fs::metadata(source).map_err(Error::io("read", source))?.len()
    })?;
    let mut command = Command::new("qemu-img");
    // The format is said, not guessed: a raw disk could pretend to be a qcow2 that refers to files of the host.
    command
        .args(["convert", "-f", format, "-O", "raw"])
        .arg(source)
        .arg(disk);
    run(QEMU_IMG, &mut command, Some(progress))
}

/// The size of the disk in a qcow2 file (QEMU, docs/interop/qcow2.txt, "Header"). One that names other files would bring
/// in whatever the host has there, and is refused.
fn qcow2_size(source: &Path) -> Result<u64> {
    let mut header = [0; 80];
    let mut file = File::open(source).map_err(Error::io("open", source))?;
    if file.read_exact(&mut header).is_err() {
        return Err(Error::invalid(source, "it ends within its header"));
    }
    let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let long = |at: usize| u64::from(word(at)) << 32 | u64::from(word(at + 4));
    let version = word(4);
    if !matches!(version, 2 | 3) {
        return Err(Error::invalid(
            source,
            format!("qcow2 version {version} is unknown"),
        ));
    }
    // A backing file, or incompatible feature bit 2: an external data file.
    if long(8) != 0 || (version == 3 && long(72) & 1 << 2 != 0) {
        return Err(Error::invalid(source, "it refers to another file"));
    }
    Ok(long(24))
}

#[cfg(test)]
#[path = "root_disk_tests.rs"]
mod tests;
