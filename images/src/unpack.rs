//! Unpacking an image into a folder: `metadata.yaml`, `templates/`, and `rootfs/` or `rootfs.img`.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use nix::sys::stat::SFlag;
use tar::EntryType;

use crate::compression::{Magic, magic_of, open_tar};
use crate::error::{Error, Result};
use crate::limits::{Budget, Limits, Progress};
use crate::place::{Attributes, Place, clean, set_top};
use crate::root_disk::convert_disk;
use crate::squashfs::unpack_squashfs;

/// Unpacks within the default limits. Writes `rootfs/` (or `rootfs.img`, a raw disk), `metadata.yaml` and `templates/`
/// into `dest`, which exists. `progress` is told the bytes of the image files read so far; raising `cancel` ends it with
/// [`Error::Cancelled`]. On an error `dest` holds a part; the caller removes it.
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
    let limits = *limits;
    let progress = &mut Progress {
        report: progress,
        cancel,
    };
    let mut budget = Budget::new(limits);
    let size = |path: &Path| {
        fs::metadata(path)
            .map(|metadata| metadata.len())
            .map_err(Error::io("read", path))
    };
    let total = size(meta)? + rootfs.map(size).transpose()?.unwrap_or(0);
    let mut done = 0;
    unpack_tar(meta, dest, &mut budget, progress, &mut done, wanted_of_image)?;
    let Some(rootfs) = rootfs else {
        return if dest.join("rootfs").is_dir() || dest.join("rootfs.img").is_file() {
            Ok(())
        } else {
            Err(Error::invalid(meta, "it has neither rootfs/ nor rootfs.img"))
        };
    };
    let folder = dest.join("rootfs");
    match magic_of(rootfs)? {
        Magic::Squashfs => {
            unpack_squashfs(rootfs, &folder, limits, progress)?;
            (progress.report)(total);
            Ok(())
        }
        Magic::Compressed(_) => {
            if !folder.is_dir() {
                fs::create_dir(&folder).map_err(Error::io("make", &folder))?;
            }
            unpack_tar(rootfs, &folder, &mut budget, progress, &mut done, |path| {
                Some(path.to_owned())
            })
        }
        Magic::Qcow2 | Magic::Disk => {
            convert_disk(rootfs, &dest.join("rootfs.img"))?;
            (progress.report)(total);
            Ok(())
        }
        Magic::Unknown => Err(Error::invalid(
            rootfs,
            "it is neither squashfs, tar, qcow2 nor a disk with a partition table",
        )),
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

fn unpack_tar(
    file: &Path,
    dest: &Path,
    budget: &mut Budget,
    progress: &mut Progress<'_>,
    done: &mut u64,
    wanted: impl Fn(&Path) -> Option<PathBuf>,
) -> Result<()> {
    let (stream, read_so_far) = open_tar(file)?;
    let broken = |err: std::io::Error| Error::invalid(file, err.to_string());
    let mut archive = tar::Archive::new(stream);
    let mut place = Place::new(dest)?;
    // A folder's time changes with each file made in it, so times of folders are set again at the end.
    let mut folders: Vec<(PathBuf, Attributes)> = Vec::new();
    let before = *done;
    for entry in archive.entries().map_err(broken)? {
        progress.check()?;
        let mut entry = entry.map_err(broken)?;
        *done = before + read_so_far.get();
        (progress.report)(*done);
        budget.entry()?;
        let listed = entry.path().map_err(broken)?.into_owned();
        let mut attributes = attributes_of(&mut entry, &listed)?;
        let Some(path) = clean(&listed)? else {
            set_top(dest, &attributes)?;
            continue;
        };
        let Some(path) = wanted(&path) else { continue };
        match entry.header().entry_type() {
            EntryType::Directory => {
                place.folder(&path, &attributes)?;
                attributes.xattrs.clear();
                folders.push((path, attributes));
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                place.file(&path, &attributes, &mut entry, &mut |count| budget.bytes(count))?;
            }
            EntryType::Symlink => {
                let target = link_target(&entry, &path)?;
                place.symlink(&path, &target, &attributes)?;
            }
            EntryType::Link => {
                let target = link_target(&entry, &path)?;
                let target =
                    clean(&target)?.ok_or_else(|| Error::entry(&path, "it links to the image itself"))?;
                let target = wanted(&target)
                    .ok_or_else(|| Error::entry(&path, "it links to a part that is not kept"))?;
                place.hard_link(&path, &target)?;
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
                place.node(&path, flag, major, minor, &attributes)?;
            }
            // Headers of the archive itself.
            _ => {}
        }
    }
    for (path, attributes) in folders.iter().rev() {
        place.folder(path, attributes)?;
    }
    *done = before + fs::metadata(file).map_err(Error::io("read", file))?.len();
    (progress.report)(*done);
    Ok(())
}

fn link_target<R: Read>(entry: &tar::Entry<'_, R>, path: &Path) -> Result<PathBuf> {
    match entry.link_name() {
        Ok(Some(target)) => Ok(target.into_owned()),
        _ => Err(Error::entry(path, "it is a link to nothing")),
    }
}

fn attributes_of<R: Read>(entry: &mut tar::Entry<'_, R>, path: &Path) -> Result<Attributes> {
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
        mtime: i64::try_from(header.mtime().unwrap_or(0)).unwrap_or(0),
        xattrs: Vec::new(),
    };
    if let Ok(Some(extensions)) = entry.pax_extensions() {
        for extension in extensions.flatten() {
            let Ok(key) = extension.key() else { continue };
            match (key, extension.value()) {
                ("uid", Ok(value)) => {
                    attributes.uid = value.parse().map_err(|_| Error::entry(path, "bad uid"))?
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

#[cfg(test)]
#[path = "unpack_tests.rs"]
mod tests;
