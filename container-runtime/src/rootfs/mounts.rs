//! The list of mounts: new file systems are made before the root changes, everything is attached after it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use super::lookup::{RootDir, TargetKind};
use crate::cgroup::Hierarchy;
use crate::launch::{MountPlan, MountSource};
use crate::sys::c_string;
use crate::sys::mount::{NewFs, attach, attr, change, new_fs};
use crate::{Error, Result};

/// Where programs expect the kernel's own file systems: these must be real directories.
const FIXED: &[&str] = &["/proc", "/sys", "/dev"];
const NO_SPECIAL: u64 = attr::NOSUID | attr::NODEV | attr::NOEXEC;

/// Makes the new file systems, still detached; `None` for binds and what is put together later.
pub(crate) fn make_new(mounts: &[MountPlan]) -> Result<Vec<Option<OwnedFd>>> {
    mounts
        .iter()
        .map(|mount| {
            let made = match &mount.source {
                MountSource::New { kind, options } => {
                    let options: Vec<&str> = options.iter().map(String::as_str).collect();
                    new_fs(kind, &options, mount.attributes)
                }
                MountSource::Cgroup2 => new_fs("cgroup2", &[], mount.attributes),
                MountSource::Cgroup1(_) => new_fs("tmpfs", &["mode=755", "size=64k"], NO_SPECIAL),
                MountSource::Bind { .. } => return Ok(None),
            };
            match made {
                Ok(tree) => Ok(Some(tree)),
                Err(_) if mount.optional => Ok(None),
                Err(source) => Err(Error::system(
                    format!("make the file system for {}", mount.target),
                    source,
                )),
            }
        })
        .collect()
}

/// Attaches the trees in the order of the plan.
pub(crate) fn attach_all(
    root: &RootDir,
    mounts: &[MountPlan],
    made: Vec<Option<OwnedFd>>,
    binds: &[Option<OwnedFd>],
) -> Result<()> {
    for ((mount, made), bind) in mounts.iter().zip(made).zip(binds) {
        let Some(tree) = made.as_ref().or(bind.as_ref()) else {
            continue;
        };
        let kind = match &mount.source {
            MountSource::Bind { .. } if !is_directory(tree) => TargetKind::File,
            _ => TargetKind::Directory,
        };
        let target = if is_fixed(mount) {
            root.fixed_target(&mount.target)?
        } else {
            root.target(&mount.target, kind)
                .map_err(|e| Error::file("make", &mount.target, e))?
        };
        attach(tree, target).map_err(|e| Error::system(format!("mount {}", mount.target), e))?;
        if let MountSource::Cgroup1(hierarchies) = &mount.source {
            legacy_hierarchies(tree, hierarchies, mount.attributes)?;
        }
    }
    Ok(())
}

/// New file systems below the kernel's directories; binds go wherever the user wants.
fn is_fixed(mount: &MountPlan) -> bool {
    !matches!(mount.source, MountSource::Bind { .. })
        && FIXED
            .iter()
            .any(|place| Path::new(&mount.target).starts_with(place))
}

pub(super) fn is_directory(fd: impl AsFd) -> bool {
    nix::sys::stat::fstat(fd).is_ok_and(|data| data.st_mode & libc::S_IFMT == libc::S_IFDIR)
}

/// The mounts below a tmpfs at `/sys/fs/cgroup`, as systemd and other init systems of the v1 time expect them: one directory per
/// hierarchy, a link for each of several controllers in one.
fn legacy_hierarchies(base: &OwnedFd, hierarchies: &[Hierarchy], attributes: u64) -> Result<()> {
    let dir = RootDir::from_fd(
        base.try_clone()
            .map_err(|e| Error::system("copy a descriptor", e))?,
    );
    for hierarchy in hierarchies {
        let failed =
            |e: io::Error| Error::system(format!("mount cgroup {}", hierarchy.controllers.join(",")), e);
        let fs = NewFs::open("cgroup").map_err(failed)?;
        let mut name = Vec::new();
        for controller in &hierarchy.controllers {
            if controller.starts_with("name=") {
                fs.option("none").map_err(failed)?;
            }
            fs.option(controller).map_err(failed)?;
            name.push(controller.trim_start_matches("name="));
        }
        let tree = fs.mount(attributes).map_err(failed)?;
        let joined = name.join(",");
        let target = dir.target(&joined, TargetKind::Directory).map_err(failed)?;
        attach(tree, target).map_err(failed)?;
        if name.len() > 1 {
            for controller in name {
                symlink(&joined, &dir, controller).map_err(failed)?;
            }
        }
    }
    change(base, attr::RDONLY, 0, false).map_err(|e| Error::system("protect /sys/fs/cgroup", e))
}

/// symlinkat(2).
pub(super) fn symlink(content: &str, dir: &RootDir, name: &str) -> io::Result<()> {
    let (content, name) = (c_string(content)?, c_string(name)?);
    use std::os::fd::AsRawFd;
    // SAFETY: valid C strings and an open descriptor.
    crate::sys::done(unsafe { libc::symlinkat(content.as_ptr(), dir.fd().as_raw_fd(), name.as_ptr()) }.into())
}
