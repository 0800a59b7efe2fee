//! Unpacking an image into a folder: `metadata.yaml`, `templates/`, and `rootfs/` or `rootfs.img`.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use nix::sys::stat::SFlag;
use tar::EntryType;

use crate::archive::{Entry, for_each_entry};
use crate::compression::{Magic, magic_of};
use crate::error::{Error, Result};
use crate::limits::{Budget, Limits, Progress};
use crate::metadata::{METADATA_MAX, Metadata};
use crate::place::{Attributes, Place, clean, is_harmless, set_top};
use crate::root_disk::convert_disk_within;
use crate::squashfs::unpack_squashfs;

/// Unpacks within the default limits. Writes `rootfs/` (or `rootfs.img`, a raw disk), `metadata.yaml` and `templates/`
/// into `dest`, which exists. `progress` is told the bytes of the image files read so far; raising `cancel` ends it with
/// [`Error::Cancelled`]. On an error `dest` holds a part; the caller removes it.
///
/// Of device nodes, only those are made that grant nothing (`null`, `tty` and their like).
pub fn unpack(
    meta: &Path,
    rootfs: Option<&Path>,
    dest: &Path,
    progress: &mut dyn FnMut(u64),
    cancel: &AtomicBool,
) -> Result<()> {
    unpack_within(meta, rootfs, dest, &Limits::default(), progress, cancel)
}

/// As [`unpack`], within other limits.
pub fn unpack_within(
    meta: &Path,
    rootfs: Option<&Path>,
    dest: &Path,
    limits: &Limits,
    progress: &mut dyn FnMut(u64),
    cancel: &AtomicBool,
) -> Result<()> {
    let mut job = Job {
        progress: Progress {
            report: progress,
            cancel,
        },
        budget: Budget::new(*limits),
        done: 0,
    };
    job.unpack_tar(meta, dest, wanted_of_image)?;
    if let Some(rootfs) = rootfs {
        job.unpack_root(rootfs, dest)?;
    }
    check(meta, dest)?;
    let disk = dest.join("rootfs.img");
    if rootfs.is_none() && disk.is_file() && magic_of(&disk)? == Magic::Qcow2 {
        let raw = dest.join("rootfs.raw");
        convert_disk_within(&disk, &raw, &mut job.budget, &mut job.progress)?;
        fs::rename(&raw, &disk).map_err(Error::io("rename", &raw))?;
    }
    Ok(())
}

/// Checks that what lies in `dest` is an image, and that none of the names the daemon will use is a link to elsewhere.
fn check(file: &Path, dest: &Path) -> Result<()> {
    let found = |name: &str| fs::symlink_metadata(dest.join(name));
    let description = found("metadata.yaml").map_err(|_| Error::invalid(file, "it has no metadata.yaml"))?;
    if !description.is_file() || description.len() > METADATA_MAX {
        return Err(Error::Metadata(
            "it is not a regular file of at most 1 MiB".into(),
        ));
    }
    // The last entry of that name counts, which need not be the one that was inspected.
    let path = dest.join("metadata.yaml");
    Metadata::from_yaml(&fs::read(&path).map_err(Error::io("read", &path))?)?;
    if found("templates").is_ok_and(|templates| !templates.is_dir()) {
        return Err(Error::invalid(file, "its templates are not a folder"));
    }
    match (found("rootfs"), found("rootfs.img")) {
        (Ok(root), _) if !root.is_dir() => Err(Error::invalid(file, "its rootfs is not a folder")),
        (_, Ok(disk)) if !disk.is_file() => Err(Error::invalid(file, "its rootfs.img is not a file")),
        (Err(_), Err(_)) => Err(Error::invalid(file, "it has neither rootfs/ nor rootfs.img")),
        _ => Ok(()),
    }
}

/// The parts of a unified image that are kept; others are passed over.
fn wanted_of_image(path: &Path) -> Option<PathBuf> {
    let first = path.components().next()?;
    let known = ["rootfs", "rootfs.img", "templates", "metadata.yaml"];
    known
        .iter()
        .any(|name| first.as_os_str() == *name)
        .then(|| path.to_owned())
}

/// One unpacking: what is left of its limits, and how far it is.
struct Job<'a> {
    progress: Progress<'a>,
    budget: Budget,
    /// Bytes of the image files that are done.
    done: u64,
}

impl Job<'_> {
    /// Unpacks the second file of a split image.
    fn unpack_root(&mut self, rootfs: &Path, dest: &Path) -> Result<()> {
        let folder = dest.join("rootfs");
        match magic_of(rootfs)? {
            Magic::Squashfs => unpack_squashfs(rootfs, &folder, &mut self.budget, &mut self.progress)?,
            Magic::Compressed(_) => {
                match fs::symlink_metadata(&folder) {
                    Ok(found) if found.is_dir() => {}
                    Ok(_) => return Err(Error::entry(Path::new("rootfs"), "it is not a folder")),
                    Err(_) => fs::create_dir(&folder).map_err(Error::io("make", &folder))?,
                }
                return self.unpack_tar(rootfs, &folder, |path| Some(path.to_owned()));
            }
            Magic::Qcow2 | Magic::Disk => {
                let disk = dest.join("rootfs.img");
                convert_disk_within(rootfs, &disk, &mut self.budget, &mut self.progress)?;
            }
            Magic::Unknown => {
                let reason = "it is neither squashfs, tar, qcow2 nor a disk with a partition table";
                return Err(Error::invalid(rootfs, reason));
            }
        }
        self.done += fs::metadata(rootfs).map_err(Error::io("read", rootfs))?.len();
        (self.progress.report)(self.done);
        Ok(())
    }

    fn unpack_tar(
        &mut self,
        file: &Path,
        dest: &Path,
        wanted: impl Fn(&Path) -> Option<PathBuf>,
    ) -> Result<()> {
        let mut place = Place::new(dest)?;
        // A folder's time changes with each file made in it, so times of folders are set again at the end.
        let mut folders: Vec<(PathBuf, Attributes)> = Vec::new();
        let before = self.done;
        for_each_entry(file, &mut |entry, read_so_far| {
            let budget = &mut self.budget;
            let progress = &mut self.progress;
            let mut tick = || {
                progress.check()?;
                (progress.report)(before + read_so_far.get());
                Ok(())
            };
            tick()?;
            budget.entry()?;
            let listed = entry
                .path()
                .map_err(|err| Error::invalid(file, err))?
                .into_owned();
            let attributes = attributes_of(entry, &listed)?;
            let Some(path) = clean(&listed)? else {
                set_top(dest, &attributes)?;
                return Ok(ControlFlow::Continue(()));
            };
            if let Some(path) = wanted(&path) {
                let count = &mut |bytes| {
                    tick()?;
                    budget.bytes(bytes)
                };
                make(&mut place, entry, &path, attributes, count, &wanted, &mut folders)?;
            }
            Ok(ControlFlow::Continue(()))
        })?;
        for (path, attributes) in folders.iter().rev() {
            place.folder(path, attributes)?;
        }
        self.done = before + fs::metadata(file).map_err(Error::io("read", file))?.len();
        (self.progress.report)(self.done);
        Ok(())
    }
}

/// Makes what one entry describes.
fn make(
    place: &mut Place,
    entry: &mut Entry<'_>,
    path: &Path,
    mut attributes: Attributes,
    count: &mut dyn FnMut(u64) -> Result<()>,
    wanted: &dyn Fn(&Path) -> Option<PathBuf>,
    folders: &mut Vec<(PathBuf, Attributes)>,
) -> Result<()> {
    match entry.header().entry_type() {
        EntryType::Directory => {
            place.folder(path, &attributes)?;
            attributes.xattrs.clear();
            folders.push((path.to_owned(), attributes));
        }
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            place.file(path, &attributes, entry, count)?;
        }
        EntryType::Symlink => {
            let target = link_target(entry, path)?;
            place.symlink(path, &target, &attributes)?;
        }
        EntryType::Link => {
            let target = link_target(entry, path)?;
            let target = clean(&target)?.ok_or_else(|| Error::entry(path, "it links to the image itself"))?;
            let target =
                wanted(&target).ok_or_else(|| Error::entry(path, "it links to a part that is not kept"))?;
            place.hard_link(path, &target)?;
        }
        kind @ (EntryType::Char | EntryType::Block | EntryType::Fifo) => {
            let flag = match kind {
                EntryType::Char => SFlag::S_IFCHR,
                EntryType::Block => SFlag::S_IFBLK,
                _ => SFlag::S_IFIFO,
            };
            let number = |value: std::io::Result<Option<u32>>| value.ok().flatten().unwrap_or(0);
            let (major, minor) = (
                number(entry.header().device_major()),
                number(entry.header().device_minor()),
            );
            if flag != SFlag::S_IFIFO && !is_harmless(flag, major, minor) {
                tracing::warn!(?path, major, minor, "leaving a device node out of the image");
                return Ok(());
            }
            place.node(path, flag, major, minor, &attributes)?;
        }
        // Headers of the archive itself.
        _ => {}
    }
    Ok(())
}

fn link_target(entry: &Entry<'_>, path: &Path) -> Result<PathBuf> {
    match entry.link_name() {
        Ok(Some(target)) => Ok(target.into_owned()),
        _ => Err(Error::entry(path, "it is a link to nothing")),
    }
}

fn attributes_of(entry: &mut Entry<'_>, path: &Path) -> Result<Attributes> {
    let broken = |err: std::io::Error| Error::entry(path, format!("its header is damaged: {err}"));
    let id = |value: u64, what: &str| {
        u32::try_from(value)
            .map_err(|_| Error::entry(path, format!("{what} {value} is no id of this kernel")))
    };
    let header = entry.header();
    let mut attributes = Attributes {
        uid: id(header.uid().map_err(broken)?, "uid")?,
        gid: id(header.gid().map_err(broken)?, "gid")?,
        mode: header.mode().map_err(broken)?,
        mtime: (i64::try_from(header.mtime().unwrap_or(0)).unwrap_or(0), 0),
        xattrs: Vec::new(),
    };
    if let Ok(Some(extensions)) = entry.pax_extensions() {
        for extension in extensions.flatten() {
            let Ok(key) = extension.key() else { continue };
            match (key, extension.value()) {
                ("uid", Ok(value)) => {
                    attributes.uid = value.parse().map_err(|_| Error::entry(path, "bad uid"))?
                }
                ("mtime", Ok(value)) => attributes.mtime = pax_time(value).unwrap_or(attributes.mtime),
                (key, _) if key.starts_with("GNU.sparse.") => {
                    let reason =
                        "it is sparse in pax form; make the image with tar --format=gnu or without --sparse";
                    return Err(Error::entry(path, reason));
                }
                ("gid", Ok(value)) => {
                    attributes.gid = value.parse().map_err(|_| Error::entry(path, "bad gid"))?
                }
                _ => {
                    // Capabilities of programs and user attributes; trusted.* and ACLs of other ids are not for guests to set.
                    if let Some(name) = key.strip_prefix("SCHILY.xattr.")
                        && (name.starts_with("user.")
                            || name == "security.capability"
                            || name.starts_with("system.posix_acl_"))
                    {
                        attributes
                            .xattrs
                            .push((name.to_owned(), extension.value_bytes().to_vec()));
                    }
                }
            }
        }
    }
    Ok(attributes)
}

/// A time as pax has it: seconds, and perhaps a fraction (POSIX.1-2017, pax, "mtime").
fn pax_time(text: &str) -> Option<(i64, i64)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    let (seconds, nanoseconds): (i64, i64) = (whole.parse().ok()?, digits.parse().ok()?);
    if !(0..1_000_000_000).contains(&nanoseconds) {
        return None;
    }
    // Before 1970 the fraction goes the other way.
    Some(if text.starts_with('-') && nanoseconds > 0 {
        (seconds.checked_sub(1)?, 1_000_000_000 - nanoseconds)
    } else {
        (seconds, nanoseconds)
    })
}

#[cfg(test)]
#[path = "unpack_tests.rs"]
mod tests;
