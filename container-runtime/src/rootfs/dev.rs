//! `/dev`: nodes are bind mounts of the host's, because a user namespace may not make any (mknod(2), EPERM); and the console.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use super::Terminal;
use super::lookup::{RootDir, TargetKind};
use super::mounts::symlink;
use crate::launch::Plan;
use crate::sys::mount::{attach, clone_tree};
use crate::sys::{done, owned};
use crate::{Error, Result};

/// What programs expect beside the nodes (OCI runtime-spec, runtime-linux.md "Dev symbolic links").
const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Attaches the device nodes and makes the links.
pub(super) fn populate(root: &RootDir, plan: &Plan, trees: &[Option<OwnedFd>]) -> Result<()> {
    for (device, tree) in plan.devices.iter().zip(trees) {
        let Some(tree) = tree else { continue };
        root.target(&device.target, TargetKind::File)
            .and_then(|target| attach(tree, target))
            .map_err(|e| Error::file("make", &device.target, e))?;
    }
    if !plan.mounts.iter().any(|mount| mount.target == "/dev") {
        return Ok(());
    }
    let dev = RootDir::from_fd(root.fixed_target("/dev")?);
    for (name, content) in LINKS {
        match symlink(content, &dev, name) {
            Err(error) if error.raw_os_error() != Some(libc::EEXIST) => {
                return Err(Error::file("make", Path::new("/dev").join(name), error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Opens a terminal of the container's devpts and puts it at `/dev/console`.
pub(super) fn console(root: &RootDir, (width, height): (u16, u16)) -> Result<Terminal> {
    let open = || -> io::Result<Terminal> {
        let pts = root.open_at("/dev/pts", libc::O_PATH | libc::O_DIRECTORY)?;
        let pts = RootDir::from_fd(pts);
        let master = pts.open_at("ptmx", libc::O_RDWR | libc::O_NOCTTY)?;
        let unlock: libc::c_int = 0;
        let mut number: libc::c_uint = 0;
        let size = libc::winsize {
            ws_row: height,
            ws_col: width,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: each request gets a pointer to the type it reads or writes.
        let slave = unsafe {
            done(libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlock).into())?;
            done(libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN, &raw mut number).into())?;
            done(libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size).into())?;
            let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
            owned(libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags).into())?
        };
        let node = clone_tree(Some(pts.fd()), Path::new(&number.to_string()), false)?;
        attach(node, root.target("/dev/console", TargetKind::File)?)?;
        Ok(Terminal { master, slave })
    };
    open().map_err(|e| Error::system("open the console", e))
}
