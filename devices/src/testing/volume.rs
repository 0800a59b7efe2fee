//! A small file system of its own, for disks whose host storage misbehaves: it fills up soon, and it can be frozen, so that
//! whoever writes to it hangs in the kernel until it is thawed.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

/// `_IOWR('X', 119, int)` and the one after it (linux/fs.h).
const FIFREEZE: u64 = 0xc004_5877;
const FITHAW: u64 = 0xc004_5878;

/// A mounted file system, gone when this is dropped.
pub(crate) struct Volume {
    root: PathBuf,
    frozen: bool,
    _folder: tempfile::TempDir,
}

fn runs(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

impl Volume {
    /// Makes one of so many mebibytes (8 at least); nothing where the host does not let us.
    pub(crate) fn new(mebibytes: u64) -> Option<Self> {
        let folder = tempfile::tempdir().ok()?;
        let (image, root) = (folder.path().join("image"), folder.path().join("root"));
        std::fs::create_dir(&root).ok()?;
        let file = File::create(&image).ok()?;
        file.set_len(mebibytes << 20).ok()?;
        // Without reserved blocks root finds it as full as others do.
        let made = runs(
            Command::new("mkfs.ext4")
                .args(["-q", "-F", "-m", "0"])
                .arg(&image),
        ) && runs(Command::new("mount").args(["-o", "loop"]).args([&image, &root]));
        if !made {
            eprintln!("skipped: no file system on a loop device here");
            return None;
        }
        Some(Self {
            root,
            frozen: false,
            _folder: folder,
        })
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        &self.root
    }

    fn control(&self, request: u64) -> std::io::Result<()> {
        let root = File::open(&self.root)?;
        // SAFETY: the requests read nothing from where their argument points to.
        match unsafe { libc::ioctl(root.as_raw_fd(), request as _, 0) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    }

    /// Lets writers hang from now on.
    #[allow(clippy::expect_used, reason = "a test that cannot go on fails")]
    pub(crate) fn freeze(&mut self) {
        self.control(FIFREEZE).expect("freeze a file system");
        self.frozen = true;
    }

    /// Lets them go on.
    pub(crate) fn thaw(&mut self) {
        if std::mem::take(&mut self.frozen) {
            let _ = self.control(FITHAW);
        }
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        self.thaw();
        let _ = runs(Command::new("umount").arg("--lazy").arg(&self.root));
    }
}
