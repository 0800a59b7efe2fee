//! Root file systems as squashfs, unpacked by Debian's `unsquashfs`.
//!
//! The tool is older and better tested on hostile input than the crates that read the format, runs in a process of its
//! own, and keeps extended attributes, which they do not. Its listing is checked against the limits first.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::error::{Error, Result};
use crate::limits::{Budget, Progress};
use crate::place::remove_harmful_devices;
use crate::tool::{Tool, run, run_reading};

const UNSQUASHFS: Tool = Tool {
    program: "unsquashfs",
    package: "squashfs-tools",
};

/// Longest line of a listing: a path and what stands before it.
const LINE_MAX: u64 = 64 << 10;

/// Unpacks `image` to the folder `dest`, which must not exist or be empty.
pub(crate) fn unpack_squashfs(
    image: &Path,
    dest: &Path,
    budget: &mut Budget,
    progress: &mut Progress<'_>,
) -> Result<()> {
    if fs::symlink_metadata(dest).is_ok() {
        fs::remove_dir(dest).map_err(Error::io("replace", dest))?;
    }
    let mut list = Command::new(UNSQUASHFS.program);
    list.arg("-lln").arg(image).stdout(Stdio::piped());
    run_reading(UNSQUASHFS, &mut list, Some(progress), &mut |child, progress| {
        check_listing(child, budget, progress)
    })?;
    let mut unpack = Command::new(UNSQUASHFS.program);
    unpack
        .args(["-no-progress", "-quiet", "-dest"])
        .arg(dest)
        .arg(image);
    run(UNSQUASHFS, &mut unpack, Some(progress))?;
    remove_harmful_devices(dest)
}

/// Adds up a listing: `-rw-r--r-- 0/0   123 2023-11-14 22:13 squashfs-root/file`. A name with a line break in it can
/// only make the sum larger.
fn check_listing(
    child: &mut Child,
    budget: &mut Budget,
    progress: &mut Option<&mut Progress<'_>>,
) -> Result<()> {
    let Some(output) = child.stdout.take() else {
        return Ok(());
    };
    let mut lines = BufReader::new(output);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut lines).take(LINE_MAX).read_until(b'\n', &mut line);
        if read.map_err(Error::io("list", Path::new(UNSQUASHFS.program)))? == 0 {
            return Ok(());
        }
        if let Some(progress) = progress {
            progress.check()?;
        }
        let text = String::from_utf8_lossy(&line);
        let mut fields = text.split_ascii_whitespace();
        let Some(mode) = fields.next() else { continue };
        budget.entry()?;
        if mode.starts_with('-') {
            budget.bytes(fields.nth(1).and_then(|size| size.parse().ok()).unwrap_or(0))?;
        }
    }
}
