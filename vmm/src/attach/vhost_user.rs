//! Devices of vhost-user back ends, and the way to back ends that come back.
//!
//! The process cannot open paths once it is confined, so the folder of each socket is opened before, and stays. A device's
//! worker that looks for its back end makes this folder its own working directory and connects to the socket's name.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use devices::virtio::vhost::{Connector, Profile, VhostUser};

use super::{AttachError, Made, failed};
use crate::config::{FileSystemConfig, VmConfig};
use crate::{host_file, unix_path};

/// How long a back end may take to listen that was started at the same time as this process.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it is tried meanwhile.
const INTERVAL: Duration = Duration::from_millis(10);

/// Makes a device of the back end that listens on `socket`.
pub(super) fn make(
    config: &VmConfig,
    id: &str,
    kind: &'static str,
    socket: &Path,
    profile: Profile,
) -> Result<Made, AttachError> {
    let socket = config.resolve(socket);
    let connector = connector(&socket).map_err(failed(kind, id, socket.display()))?;
    let device = VhostUser::new(profile, connector).map_err(failed(kind, id, socket.display()))?;
    Ok(Made::new(id, kind, device))
}

/// Makes a shared file system.
pub(super) fn make_file_system(
    config: &VmConfig,
    file_system: &FileSystemConfig,
) -> Result<Made, AttachError> {
    let tag = file_system.tag.clone();
    let profile = Profile::FileSystem { tag };
    make(
        config,
        &file_system.tag,
        "file-system",
        &file_system.socket,
        profile,
    )
}

/// Connects to a socket by its path at first, and by its folder from then on.
fn connector(socket: &Path) -> io::Result<Connector> {
    if host_file::is_descriptor(socket) {
        let mut inherited = Some(host_file::connect(socket)?);
        return Ok(Box::new(move || {
            inherited.take().ok_or_else(|| {
                let problem = "the connection was inherited, so it cannot be made again";
                io::Error::new(io::ErrorKind::NotConnected, problem)
            })
        }));
    }
    host_file::check_open()?;
    let (folder, name) = match (socket.parent(), socket.file_name()) {
        (Some(folder), Some(name)) => (open_folder(folder)?, Path::new(name).to_owned()),
        _ => {
            let problem = format!("{} names no socket", socket.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
        }
    };
    let mut first = Some(connect_patiently(socket)?);
    Ok(Box::new(move || match first.take() {
        Some(stream) => Ok(stream),
        None => unix_path::connect_in(&folder, &name),
    }))
}

fn open_folder(folder: &Path) -> io::Result<File> {
    File::options()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC)
        .open(folder)
}

/// Connects to a back end that may not listen yet.
fn connect_patiently(socket: &Path) -> io::Result<UnixStream> {
    let began = Instant::now();
    loop {
        match unix_path::connect(socket) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) && began.elapsed() < PATIENCE =>
            {
                std::thread::sleep(INTERVAL);
            }
            result => return result,
        }
    }
}
