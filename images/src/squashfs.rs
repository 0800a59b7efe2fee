//! Root file systems as squashfs, unpacked by Debian's `unsquashfs`.
//!
//! The tool is older and better tested on hostile input than the crates that
//! read the format, and keeps extended attributes, which they do not.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::limits::{Limits, Progress};

const PROGRAM: &str = "unsquashfs";

/// Unpacks `image` to the folder `dest`, which must not exist or be empty.
pub(crate) fn unpack_squashfs(
    image: &Path,
    dest: &Path,
    limits: Limits,
    progress: &mut Progress<'_>,
) -> Result<()> {
    check_size(image, limits)?;
    if dest.is_dir() {
        fs::remove_dir(dest).map_err(Error::io("replace", dest))?;
    }
    let log = tempfile::tempfile().map_err(Error::io("make a log for", image))?;
    let errors = log.try_clone().map_err(Error::io("make a log for", image))?;
    let mut child = Command::new(PROGRAM)
        .args(["-no-progress", "-quiet", "-dest"])
        .arg(dest)
        .arg(image)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(errors)
        .spawn()
        .map_err(Error::cannot_run(PROGRAM, "squashfs-tools"))?;
    let status = loop {
        if let Err(cancelled) = progress.check() {
            // It is our own child; its half-made tree is removed by the caller.
            let _ = child.kill();
            let _ = child.wait();
            return Err(cancelled);
        }
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) => std::thread::sleep(Duration::from_millis(10)),
            Err(err) => return Err(Error::io("wait for unsquashfs of", image)(err)),
        }
    };
    if status.success() {
        return Ok(());
    }
    Err(Error::Tool {
        tool: PROGRAM,
        status: status.to_string(),
        stderr: last_words(log),
    })
}

/// The unpacked size that the superblock's inode table allows is not stored: ask the tool for its listing.
fn check_size(image: &Path, limits: Limits) -> Result<()> {
    let output = Command::new(PROGRAM)
        .args(["-lln", "-quiet"])
        .arg(image)
        .stdin(Stdio::null())
        .output()
        .map_err(Error::cannot_run(PROGRAM, "squashfs-tools"))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::invalid(
            image,
            format!("{PROGRAM} cannot list it: {words}"),
        ));
    }
    let mut budget = crate::limits::Budget::new(limits);
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        // "-rw-r--r-- 0/0   123 2023-11-14 22:13 squashfs-root/file"
        let mut fields = line.split_ascii_whitespace();
        let Some(mode) = fields.next() else { continue };
        budget.entry()?;
        if mode.starts_with('-') {
            budget.bytes(fields.nth(1).and_then(|size| size.parse().ok()).unwrap_or(0))?;
        }
    }
    Ok(())
}

fn last_words(mut log: fs::File) -> String {
    use std::io::{Read, Seek};
    let mut text = String::new();
    let _ = log.rewind();
    let _ = log.take(4096).read_to_string(&mut text);
    text.lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("no message")
        .to_owned()
}
