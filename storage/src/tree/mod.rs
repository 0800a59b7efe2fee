//! Whole directory trees: copying, removing and measuring them.
//!
//! A container's root is hostile ground: its owner may make any link, device or depth of directories, and may change it while
//! it is copied. So nothing here resolves a path inside a tree: each entry is reached by its name in an open directory, and no symbolic
//! link is ever followed.

mod copy;
mod entries;
mod file;
mod remove;
mod usage;

pub(crate) use copy::copy_tree;
pub(crate) use file::copy_file;
pub(crate) use remove::{remove, remove_with};
pub(crate) use usage::{usage, visit};

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::NixPath;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;

/// Opens a directory, never through a symbolic link in its last component.
pub(crate) fn open_dir<P: ?Sized + NixPath>(parent: impl AsFd, name: &P) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

/// Opens the top of a tree.
pub(crate) fn open_top(path: &Path) -> nix::Result<OwnedFd> {
    open_dir(AT_FDCWD, path)
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
