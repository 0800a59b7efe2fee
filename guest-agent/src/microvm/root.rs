//! The root disk: found, recognised, mounted, grown, moved to.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount as mount_call};

use super::mounts::MOVED;
use super::superblock::{self, LENGTH};
use super::{BootError, say};
use crate::config::RootConfig;

/// Where the root file system is before it becomes the root.
const NEW_ROOT: &str = "/virga/root";

/// The unchanged root below an overlay, and the changes.
const LOWER: &str = "/virga/lower";
const CHANGES: &str = "/virga/changes";

/// Devices appear while the kernel boots; one that is not there by now will not come.
const DEVICE_TIMEOUT: Duration = Duration::from_secs(10);

nix::ioctl_read!(block_device_size, 0x12, 114, u64); // BLKGETSIZE64
nix::ioctl_write_ptr!(ext4_resize, b'f', 16, u64); // EXT4_IOC_RESIZE_FS

/// Mounts the root file system, not yet as root.
pub(super) fn mount(config: &RootConfig) -> Result<(), BootError> {
    let device = Path::new(&config.device);
    wait_for(device)?;
    let start = read_start(device).map_err(BootError::because(format_args!("read {}", config.device)))?;
    let kind = match &config.fstype {
        Some(kind) => kind.as_str(),
        None => superblock::file_system(&start).ok_or_else(|| BootError {
            action: format!("mount {} as root", config.device),
            source: io::Error::other("it holds no known file system (ext4, erofs, squashfs, btrfs, xfs)"),
        })?,
    };
    let read_only = config.read_only || config.overlay || matches!(kind, "erofs" | "squashfs");
    let flags = if read_only {
        MsFlags::MS_RDONLY
    } else {
        MsFlags::empty()
    };
    let target = if config.overlay { LOWER } else { NEW_ROOT };
    attach(&config.device, target, kind, flags, "")?;
    if config.grow
        && kind == "ext4"
        && !read_only
        && let Err(error) = grow(device, target, &start)
    {
        say(format_args!("cannot grow {}: {error}", config.device)); // it works, only smaller
    }
    if config.overlay {
        attach("tmpfs", CHANGES, "tmpfs", MsFlags::empty(), "mode=0755")?;
        let [upper, work] = ["upper", "work"].map(|name| format!("{CHANGES}/{name}"));
        for directory in [&upper, &work] {
            std::fs::create_dir(directory).map_err(BootError::because(format_args!("make {directory}")))?;
        }
        let options = format!("lowerdir={LOWER},upperdir={upper},workdir={work}");
        attach("overlay", NEW_ROOT, "overlay", MsFlags::empty(), &options)?;
    }
    Ok(())
}

/// Makes the mounted file system the root, and takes the kernel's file systems along.
pub(super) fn switch() -> Result<(), BootError> {
    for directory in MOVED {
        let target = format!("{NEW_ROOT}{directory}");
        // A read-only root without the directory fails at the mount, with a message that names it.
        let _ = std::fs::create_dir(&target);
        mount_call(
            Some(directory),
            target.as_str(),
            None::<&str>,
            MsFlags::MS_MOVE,
            None::<&str>,
        )
        .map_err(BootError::because(format_args!("move {directory} to {target}")))?;
    }
    // The initrd's file system cannot be pivoted away (kernel documentation,
    // filesystems/ramfs-rootfs-initramfs.rst): the new root is moved over it.
    let over = || -> io::Result<()> {
        std::env::set_current_dir(NEW_ROOT)?;
        mount_call(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)?;
        nix::unistd::chroot(".")?;
        std::env::set_current_dir("/")
    };
    over().map_err(BootError::because("switch to the root disk"))
}

fn attach(source: &str, target: &str, kind: &str, flags: MsFlags, options: &str) -> Result<(), BootError> {
    std::fs::create_dir_all(target).map_err(BootError::because(format_args!("make {target}")))?;
    mount_call(Some(source), target, Some(kind), flags, Some(options))
        .map_err(BootError::because(format_args!("mount {source} as {kind}")))
}

fn wait_for(device: &Path) -> Result<(), BootError> {
    let deadline = Instant::now() + DEVICE_TIMEOUT;
    while !device.exists() {
        if Instant::now() > deadline {
            let message = format!("it did not appear within {} s", DEVICE_TIMEOUT.as_secs());
            let source = io::Error::new(io::ErrorKind::NotFound, message);
            return Err(BootError {
                action: format!("find the root disk {}", device.display()),
                source,
            });
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn read_start(device: &Path) -> io::Result<Vec<u8>> {
    let mut start = Vec::with_capacity(LENGTH);
    File::open(device)?.take(LENGTH as u64).read_to_end(&mut start)?;
    Ok(start)
}

/// Lets a mounted ext4 take all of its device.
fn grow(device: &Path, mounted: &str, start: &[u8]) -> io::Result<()> {
    let size = superblock::ext_size(start).ok_or_else(|| io::Error::other("its superblock is damaged"))?;
    let mut bytes = 0u64;
    // SAFETY: BLKGETSIZE64 writes a u64.
    unsafe { block_device_size(File::open(device)?.as_raw_fd(), &mut bytes) }?;
    let blocks = bytes / size.block_size;
    if blocks > size.blocks {
        // SAFETY: EXT4_IOC_RESIZE_FS reads a u64: the new number of blocks.
        unsafe { ext4_resize(File::open(mounted)?.as_raw_fd(), &blocks) }?;
    }
    Ok(())
}
