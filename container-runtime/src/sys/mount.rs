//! The mount interface by file descriptors (Linux 5.2 to 5.12): trees that are not attached anywhere yet, their attributes
//! and id shifts, new file systems, and path resolution that cannot leave a directory (openat2(2)).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::{c_string, done, owned};

/// `AT_RECURSIVE` of linux/fcntl.h: the call means the whole tree.
const AT_RECURSIVE: libc::c_int = 0x8000;
const OPEN_TREE_CLONE: libc::c_int = 1;
const OPEN_TREE_CLOEXEC: libc::c_int = libc::O_CLOEXEC;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 0x04;
const MOVE_MOUNT_T_EMPTY_PATH: libc::c_uint = 0x40;
const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;

/// Mount attributes, linux/mount.h.
pub(crate) mod attr {
    pub(crate) const RDONLY: u64 = 0x01;
    pub(crate) const NOSUID: u64 = 0x02;
    pub(crate) const NODEV: u64 = 0x04;
    pub(crate) const NOEXEC: u64 = 0x08;
    pub(crate) const NOATIME: u64 = 0x10;
    pub(crate) const STRICTATIME: u64 = 0x20;
    pub(crate) const NODIRATIME: u64 = 0x80;
    pub(crate) const IDMAP: u64 = 0x10_0000;
    pub(crate) const NOSYMFOLLOW: u64 = 0x20_0000;
}

/// `struct mount_attr` of mount_setattr(2).
#[repr(C)]
#[derive(Default)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// A private copy of the mount at `path`, not attached anywhere.
pub(crate) fn clone_tree(dir: Option<BorrowedFd<'_>>, path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let path = c_string(path.as_os_str().as_encoded_bytes())?;
    let mut flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH;
    if recursive {
        flags |= AT_RECURSIVE;
    }
    let dir = dir.map_or(libc::AT_FDCWD, |fd| fd.as_raw_fd());
    // SAFETY: the path is a valid C string for the duration of the call.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, dir, path.as_ptr(), flags) })
}

/// Attaches a tree to the place that `target` is open on.
pub(crate) fn attach(tree: impl AsFd, target: impl AsFd) -> io::Result<()> {
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: both paths are empty C strings; the descriptors are open.
    done(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_fd().as_raw_fd(),
            c"".as_ptr(),
            target.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
        )
    })
}

fn set_attributes(tree: BorrowedFd<'_>, attributes: &MountAttr, recursive: bool) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: `attributes` is a `struct mount_attr` of the size that is passed.
    done(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attributes),
            size_of::<MountAttr>(),
        )
    })
}

/// Adds attributes to a mount, clears others, and takes it out of its propagation group.
pub(crate) fn change(tree: impl AsFd, set: u64, clear: u64, recursive: bool) -> io::Result<()> {
    let attributes = MountAttr {
        attr_set: set,
        attr_clr: clear,
        propagation: libc::MS_PRIVATE,
        ..MountAttr::default()
    };
    set_attributes(tree.as_fd(), &attributes, recursive)
}

/// Shifts the ids of a detached mount by the mapping of a user namespace.
pub(crate) fn shift_ids(tree: impl AsFd, user_namespace: impl AsFd, recursive: bool) -> io::Result<()> {
    let attributes = MountAttr {
        attr_set: attr::IDMAP,
        userns_fd: user_namespace.as_fd().as_raw_fd() as u64,
        ..MountAttr::default()
    };
    set_attributes(tree.as_fd(), &attributes, recursive)
}

/// A file system that is being configured, fsopen(2).
pub(crate) struct NewFs(OwnedFd);

impl NewFs {
    /// Starts a new file system of this type.
    pub(crate) fn open(kind: &str) -> io::Result<Self> {
        let kind = c_string(kind)?;
        // SAFETY: `kind` is a valid C string.
        owned(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) }).map(Self)
    }

    fn configure(&self, command: libc::c_uint, key: Option<&str>, value: Option<&str>) -> io::Result<()> {
        let key = key.map(c_string).transpose()?;
        let value = value.map(c_string).transpose()?;
        let pointer =
            |text: &Option<std::ffi::CString>| text.as_ref().map_or(std::ptr::null(), |t| t.as_ptr());
        // SAFETY: key and value are null or valid C strings that outlive the call.
        done(unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                self.0.as_raw_fd(),
                command,
                pointer(&key),
                pointer(&value),
                0,
            )
        })
    }

    /// Sets a parameter: `key=value`, or a flag when there is no `=`.
    pub(crate) fn option(&self, option: &str) -> io::Result<()> {
        match option.split_once('=') {
            Some((key, value)) => self.configure(FSCONFIG_SET_STRING, Some(key), Some(value)),
            None => self.configure(FSCONFIG_SET_FLAG, Some(option), None),
        }
    }

    /// Makes the file system and a detached mount of it.
    pub(crate) fn mount(self, attributes: u64) -> io::Result<OwnedFd> {
        self.configure(FSCONFIG_CMD_CREATE, None, None)?;
        // SAFETY: plain integers.
        owned(unsafe {
            libc::syscall(
                libc::SYS_fsmount,
                self.0.as_raw_fd(),
                FSMOUNT_CLOEXEC,
                attributes as libc::c_uint,
            )
        })
    }
}

/// A detached mount of a new file system.
pub(crate) fn new_fs(kind: &str, options: &[&str], attributes: u64) -> io::Result<OwnedFd> {
    let fs = NewFs::open(kind)?;
    for option in options {
        fs.option(option)?;
    }
    fs.mount(attributes)
}

/// openat2(2): opens `path` below `dir` under the rules of `resolve`.
pub(crate) fn open_below(
    dir: impl AsFd,
    path: &Path,
    flags: i32,
    mode: u32,
    resolve: u64,
) -> io::Result<OwnedFd> {
    let path = c_string(path.as_os_str().as_encoded_bytes())?;
    // SAFETY: `open_how` consists of integers, for which zero is valid.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.mode = u64::from(mode);
    how.resolve = resolve;
    // A rename elsewhere in the tree makes the kernel give up a walk that has a scope, openat2(2): try again.
    for _ in 0..64 {
        // SAFETY: path and how are valid for the call, the size is that of `how`.
        let result = unsafe {
            libc::syscall(
                libc::SYS_openat2,
                dir.as_fd().as_raw_fd(),
                path.as_ptr(),
                std::ptr::from_ref(&how),
                size_of::<libc::open_how>(),
            )
        };
        match owned(result) {
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {}
            answer => return answer,
        }
    }
    Err(io::Error::from_raw_os_error(libc::EAGAIN))
}

/// Makes the directory that `root` is open on the root of this mount namespace, and forgets the old one.
pub(crate) fn pivot(root: impl AsFd) -> io::Result<()> {
    // SAFETY: an open descriptor and constant C strings. With `.` for both, the old root ends up stacked on the new one
    // (pivot_root(2), "pivot_root(".", ".")"), from where it is detached: no directory is needed to put it.
    unsafe {
        done(libc::fchdir(root.as_fd().as_raw_fd()).into())?;
        done(libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()))?;
        done(libc::umount2(c".".as_ptr(), libc::MNT_DETACH).into())?;
        done(libc::chdir(c"/".as_ptr()).into())
    }
}

/// No mount made from now on in this namespace reaches another, and none comes in.
pub(crate) fn isolate() -> io::Result<()> {
    // SAFETY: constant strings and null pointers, as mount(2) wants for a change of propagation.
    done(
        unsafe {
            libc::mount(
                std::ptr::null(),
                c"/".as_ptr(),
                std::ptr::null(),
                libc::MS_REC | libc::MS_PRIVATE,
                std::ptr::null(),
            )
        }
        .into(),
    )
}
