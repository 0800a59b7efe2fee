//! Limits on directory trees by project quotas (quotactl(2); ext4 and XFS with the mount option `prjquota`).
//!
//! A project's id is the inode number of the tree's top directory: no two trees of a file system have the same at a time, it survives
//! renaming, and nothing has to be kept elsewhere.

use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::tree;

/// linux/quota.h: the third type of quota, after users' and groups'.
const PRJQUOTA: libc::c_int = 2;
/// linux/fs.h: new entries take the project over from their directory.
const XFLAG_PROJINHERIT: u32 = 0x200;
/// Limits are told in blocks of this size (linux/quota.h, `QIF_DQBLKSIZE`).
const BLOCK: u64 = 1024;

/// linux/fs.h: `struct fsxattr`.
#[repr(C)]
#[derive(Debug, Default)]
pub(super) struct FsXattr {
    xflags: u32,
    extsize: u32,
    nextents: u32,
    project: u32,
    cow_extsize: u32,
    pad: [u8; 8],
}

nix::ioctl_read!(get_xattr, b'X', 31, FsXattr);
nix::ioctl_write_ptr!(set_xattr, b'X', 32, FsXattr);

/// Project quotas of the file system that a pool is on.
#[derive(Debug)]
pub(super) struct ProjectQuota {
    root: PathBuf,
}

impl ProjectQuota {
    /// `None` where project quotas are not switched on.
    pub(super) fn open(root: &Path) -> Option<Self> {
        let quota = Self {
            root: root.to_path_buf(),
        };
        // Project 0 is the default project of every file; asking for it shows whether anyone counts.
        quota.get(0).ok().map(|_| quota)
    }

    /// Limits a tree, or lifts its limit.
    pub(super) fn set(&self, tree: &Path, bytes: Option<u64>) -> Result<()> {
        let fail = |error: std::io::Error| Error::io("limiting", tree, error);
        let Some(project) = project_of(tree).map_err(fail)? else {
            return Ok(());
        };
        if bytes.is_some() && assigned(tree).map_err(fail)? != project {
            tree::visit(tree, &mut |fd, is_dir| assign(fd, is_dir, project))
                .map_err(|error| fail(error.into()))?;
        }
        self.put(project, bytes.unwrap_or(0)).map_err(fail)
    }

    /// A tree's limit.
    pub(super) fn limit(&self, tree: &Path) -> Result<Option<u64>> {
        let found = self
            .of_tree(tree)
            .map_err(|error| Error::io("measuring", tree, error))?;
        Ok(found
            .map(|quota| quota.dqb_bhardlimit * BLOCK)
            .filter(|&limit| limit > 0))
    }

    /// What a tree holds, if anyone counts.
    pub(super) fn usage(&self, tree: &Path) -> Option<u64> {
        self.of_tree(tree).ok().flatten().map(|quota| quota.dqb_curspace)
    }

    /// Lifts the limit of a tree that is about to go, lest the next directory with this inode number inherits it.
    pub(super) fn forget(&self, tree: &Path) {
        if let Ok(Some(project)) = project_of(tree)
            && assigned(tree).is_ok_and(|assigned| assigned == project)
        {
            // The set that follows when the number is used again replaces it in any case.
            let _ = self.put(project, 0);
        }
    }

    fn of_tree(&self, tree: &Path) -> std::io::Result<Option<libc::dqblk>> {
        match project_of(tree)? {
            Some(project) if assigned(tree)? == project => Ok(Some(self.get(project)?)),
            _ => Ok(None),
        }
    }

    fn get(&self, project: u32) -> std::io::Result<libc::dqblk> {
        let mut quota = MaybeUninit::<libc::dqblk>::zeroed();
        self.control(libc::Q_GETQUOTA, project, quota.as_mut_ptr())?;
        // SAFETY: the structure is of integers, for which all zeroes are valid, and the kernel filled it.
        Ok(unsafe { quota.assume_init() })
    }

    fn put(&self, project: u32, bytes: u64) -> std::io::Result<()> {
        // SAFETY: the structure is of integers, for which all zeroes are valid.
        let mut quota: libc::dqblk = unsafe { MaybeUninit::zeroed().assume_init() };
        quota.dqb_bhardlimit = bytes.div_ceil(BLOCK);
        quota.dqb_valid = libc::QIF_BLIMITS;
        self.control(libc::Q_SETQUOTA, project, &raw mut quota)
    }

    fn control(&self, command: libc::c_int, project: u32, quota: *mut libc::dqblk) -> std::io::Result<()> {
        let root = File::open(&self.root)?;
        let command = libc::QCMD(command, PRJQUOTA);
        // SAFETY: `quota` points to a `dqblk` that lives through the call; both commands use no more than that.
        let outcome =
            unsafe { libc::syscall(libc::SYS_quotactl_fd, root.as_raw_fd(), command, project, quota) };
        Ok(Errno::result(outcome).map(drop)?)
    }
}

/// The project a tree has, or would get. `None` where inode numbers are too large for one.
fn project_of(tree: &Path) -> std::io::Result<Option<u32>> {
    let inode = std::fs::symlink_metadata(tree)?.ino();
    Ok(u32::try_from(inode).ok().filter(|&project| project > 0))
}

/// The project that a directory is assigned to now.
fn assigned(tree: &Path) -> std::io::Result<u32> {
    let dir = tree::open_top(tree)?;
    let mut attributes = FsXattr::default();
    // SAFETY: the kernel fills the structure it is given, which is laid out as it expects.
    unsafe { get_xattr(dir.as_raw_fd(), &raw mut attributes) }?;
    Ok(attributes.project)
}

fn assign(file: BorrowedFd<'_>, is_dir: bool, project: u32) -> nix::Result<()> {
    let mut attributes = FsXattr::default();
    // SAFETY: the kernel fills the structure it is given, which is laid out as it expects.
    unsafe { get_xattr(file.as_raw_fd(), &raw mut attributes) }?;
    attributes.project = project;
    if is_dir {
        attributes.xflags |= XFLAG_PROJINHERIT;
    }
    // SAFETY: the kernel reads the structure, which lives through the call.
    unsafe { set_xattr(file.as_raw_fd(), &raw const attributes) }.map(drop)
}
