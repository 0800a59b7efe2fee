//! Disks of virtual machines: a root file system made bootable as a microVM's
//! disk, and disk images turned to raw.

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::compression::{Magic, magic_of};
use crate::error::{Error, Result};

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
    run("mkfs.ext4", "e2fsprogs", &mut command).inspect_err(|_| {
        // The error that is reported is the first one.
        let _ = fs::remove_file(disk);
    })
}

/// Writes the disk image `source` (qcow2 or raw) as a raw sparse file.
pub fn convert_disk(source: &Path, disk: &Path) -> Result<()> {
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
    if format == "qcow2" {
        refuse_references(source)?;
    }
    let mut command = Command::new("qemu-img");
    // The format is said, not guessed: a raw disk could pretend to be a qcow2 that refers to files of the host.
    command
        .args(["convert", "-f", format, "-O", "raw"])
        .arg(source)
        .arg(disk);
    run("qemu-img", "qemu-utils", &mut command)
}

/// A qcow2 file that names other files would bring in whatever the host has there.
fn refuse_references(source: &Path) -> Result<()> {
    let output = Command::new("qemu-img")
        .args(["info", "--output=json", "-f", "qcow2"])
        .arg(source)
        .stdin(Stdio::null())
        .output()
        .map_err(Error::cannot_run("qemu-img", "qemu-utils"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let refers = ["\"backing-filename\"", "\"data-file\""]
        .iter()
        .any(|key| text.contains(key));
    if !output.status.success() || refers {
        let reason = if refers {
            "it refers to another file"
        } else {
            "qemu-img cannot read it"
        };
        return Err(Error::invalid(source, reason));
    }
    Ok(())
}

fn run(program: &'static str, package: &'static str, command: &mut Command) -> Result<()> {
    let output = command
        .stdin(Stdio::null())
        .env("LC_ALL", "C")
        .output()
        .map_err(Error::cannot_run(program, package))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let words = text
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("no message");
    Err(Error::Tool {
        tool: program,
        status: output.status.to_string(),
        stderr: words.to_owned(),
    })
}
