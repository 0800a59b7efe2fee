//! Disks: opens a disk's own file and those that it stands on.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use devices::virtio::block::qcow2::{self, BackingName};
use devices::virtio::block::{self, Block, DiskFile, Format, HostFile};
use devices::virtio::vhost::Profile;

use super::{AttachError, BoxError, Made, failed, vhost_user};
use crate::config::{DiskConfig, MAX_LAYERS, VmConfig};
use crate::host_file::{self, Access};

/// How long a disk may stay locked: io_uring lets go of the files of a process that was killed some time after its end.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
/// How often it is tried meanwhile.
const LOCK_INTERVAL: Duration = Duration::from_millis(10);

/// Makes a block device.
pub(super) fn make(config: &VmConfig, disk: &DiskConfig) -> Result<Made, AttachError> {
    if let Some(socket) = &disk.vhost_user {
        let profile = Profile::Block { queues: disk.queues };
        return vhost_user::make(config, &disk.id, "block", socket, profile);
    }
    let path = config.resolve(&disk.path);
    let files = open(config, disk, &path).map_err(failed("block", &disk.id, path.display()))?;
    let serial = disk
        .serial
        .clone()
        .unwrap_or_else(|| disk.id.chars().take(block::SERIAL_LEN).collect());
    let device_config = block::Config {
        serial,
        read_only: disk.read_only,
        engine: disk.engine,
        queues: disk.queues,
        limits: disk.limits,
    };
    let block = Block::new(device_config, files).map_err(failed("block", &disk.id, path.display()))?;
    Ok(Made::new(&disk.id, "block", block))
}

/// Opens a disk's own file and, one below the other, what it stands on.
fn open(config: &VmConfig, disk: &DiskConfig, path: &Path) -> Result<Vec<DiskFile>, BoxError> {
    let access = if disk.read_only {
        Access::Read
    } else {
        Access::ReadWrite
    };
    let file = open_and_lock(path, access)?;
    let file = match (disk.direct, &disk.direct_path) {
        (false, _) => HostFile::new(file)?,
        (true, Some(direct)) => {
            HostFile::with_direct(file, host_file::open_with(direct, access, libc::O_DIRECT)?)?
        }
        (true, None) => {
            let direct = open_direct(&file, access)?;
            HostFile::with_direct(file, direct)?
        }
    };
    let own = DiskFile {
        file,
        format: disk.format,
    };
    let mut chain = Chain {
        files: vec![own],
        below: None,
        known: Vec::new(),
    };
    chain.examine(path, disk.read_only)?;
    for backing in &disk.backing {
        let path = config.resolve(&backing.path);
        if chain.below.take().is_none() {
            return Err(format!("nothing stands on {}: leave it out of `backing`", path.display()).into());
        }
        chain.push(&path, backing.format, disk.direct)?;
    }
    while let Some((folder, name)) = chain.below.take() {
        if !disk.follow_backing {
            return Err(format!(
                "it stands on {:?}: list that in `backing`, or set `follow_backing` if the image is trusted",
                name.file
            )
            .into());
        }
        let Some(folder) = folder else {
            return Err(format!(
                "it stands on {:?}, and a descriptor is in no folder: list that in `backing`",
                name.file
            )
            .into());
        };
        let (path, format) = follow(&folder, &name)?;
        chain.push(&path, format, disk.direct)?;
    }
    Ok(chain.files)
}

/// The files of a disk so far.
struct Chain {
    files: Vec<DiskFile>,
    /// What the last of them says it stands on, and the folder that is seen from.
    below: Option<(Option<PathBuf>, BackingName)>,
    /// Device and inode of each file.
    known: Vec<(u64, u64)>,
}

impl Chain {
    fn push(&mut self, path: &Path, format: Format, direct: bool) -> Result<(), BoxError> {
        if self.files.len() >= MAX_LAYERS {
            return Err(format!("it consists of more than {MAX_LAYERS} files").into());
        }
        let file = open_backing(path, direct)
            .map_err(|error| format!("cannot use its backing file {}: {error}", path.display()))?;
        self.files.push(DiskFile { file, format });
        self.examine(path, true)
    }

    /// Finds out what the last file is and what it says it stands on.
    fn examine(&mut self, path: &Path, read_only: bool) -> Result<(), BoxError> {
        let Some(last) = self.files.last() else {
            return Ok(());
        };
        let metadata = last.file.metadata()?;
        let identity = (metadata.dev(), metadata.ino());
        if self.known.contains(&identity) {
            return Err(format!("it stands on itself: {} comes twice", path.display()).into());
        }
        self.known.push(identity);
        if last.format == Format::Qcow2 {
            let name = qcow2::backing_name(&last.file)?;
            let folder = match host_file::is_descriptor(path) {
                true => None,
                false => path.parent().map(Path::to_owned),
            };
            self.below = name.map(|name| (folder, name));
        } else if !read_only && looks_like_image(&last.file) {
            tracing::warn!(path = %path.display(), "a raw disk begins like a qcow2 image; set `format` if it is one");
        }
        Ok(())
    }
}

fn looks_like_image(file: &HostFile) -> bool {
    let mut start = [0; 4];
    qcow2::Storage::read_at(file, &mut start, 0).is_ok() && qcow2::is_qcow2(&start)
}

/// Where a file is that an image names.
fn follow(folder: &Path, name: &BackingName) -> Result<(PathBuf, Format), BoxError> {
    let file = name.file.strip_prefix("file:").unwrap_or(&name.file);
    // QEMU takes what stands before a colon for a protocol, unless a slash comes first.
    let protocol = file.split('/').next().is_some_and(|part| part.contains(':'));
    if protocol || file.contains('\0') {
        return Err(format!("it stands on {:?}, which is no file", name.file).into());
    }
    let format = match name.format.as_deref() {
        Some("raw") => Format::Raw,
        Some("qcow2") => Format::Qcow2,
        Some(other) => {
            return Err(format!("it stands on a file in the format {other:?}, not raw or qcow2").into());
        }
        None => {
            return Err(format!(
                "it does not say in which format {:?} is: list that in `backing`, or use `qemu-img rebase -u -F`",
                name.file
            )
            .into());
        }
    };
    Ok((folder.join(file), format))
}

fn open_backing(path: &Path, direct: bool) -> io::Result<HostFile> {
    let file = open_and_lock(path, Access::Read)?;
    // One that came by descriptor while the VM runs goes through the page cache.
    match direct && host_file::check_open().is_ok() {
        true => {
            let direct = open_direct(&file, Access::Read)?;
            HostFile::with_direct(file, direct)
        }
        false => HostFile::new(file),
    }
}

pub(super) fn open_and_lock(path: &Path, access: Access) -> io::Result<File> {
    let file = host_file::open(path, access)?;
    lock(&file, access)?;
    Ok(file)
}

/// Opens a file a second time, past the host's page cache.
fn open_direct(file: &File, access: Access) -> io::Result<File> {
    host_file::check_open().map_err(|_| {
        let problem = "pass a second descriptor, opened with O_DIRECT, and name it as `direct_path`";
        io::Error::new(io::ErrorKind::PermissionDenied, problem)
    })?;
    let opened = OpenOptions::new()
        .read(true)
        .write(access == Access::ReadWrite)
        .custom_flags(libc::O_CLOEXEC | libc::O_DIRECT)
        .open(format!("/proc/self/fd/{}", file.as_raw_fd()));
    opened.map_err(|error| match error.raw_os_error() {
        Some(libc::EINVAL) => {
            let problem = "its file system has no direct I/O; leave `direct` out";
            io::Error::new(io::ErrorKind::Unsupported, problem)
        }
        _ => error,
    })
}

/// Takes a lock on a disk's file: two VMs that write to one disk destroy its file system, and whoever writes to what
/// others stand on destroys theirs.
fn lock(file: &File, access: Access) -> io::Result<()> {
    let lock = match access {
        Access::Read => libc::LOCK_SH,
        Access::ReadWrite => libc::LOCK_EX,
    };
    let began = Instant::now();
    loop {
        // SAFETY: the descriptor is open and the call touches no memory.
        if unsafe { libc::flock(file.as_raw_fd(), lock | libc::LOCK_NB) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::WouldBlock {
            return Err(error);
        }
        if began.elapsed() > LOCK_PATIENCE {
            let problem = "another VM or program uses it";
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, problem));
        }
        std::thread::sleep(LOCK_INTERVAL);
    }
}
