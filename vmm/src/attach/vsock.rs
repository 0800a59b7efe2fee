//! The socket device.

use std::path::PathBuf;

use devices::virtio::vsock::{self, Vsock};

use super::{AttachError, Made, failed};
use crate::config::{VSOCK_ID, VmConfig, VsockConfig};
use crate::host_file;

/// Makes the socket device.
pub(super) fn make(config: &VmConfig, vsock: &VsockConfig) -> Result<Made, AttachError> {
    let socket = config.resolve(&vsock.socket);
    let listener = host_file::listen(&socket).map_err(failed("vsock", VSOCK_ID, socket.display()))?;
    let device_config = vsock::Config {
        cid: vsock.cid,
        // Where host ports are found: in the working directory, see `crate::sandbox`.
        socket: socket.file_name().map(PathBuf::from).unwrap_or_default(),
    };
    let device =
        Vsock::with_listener(device_config, listener).map_err(failed("vsock", VSOCK_ID, socket.display()))?;
    Ok(Made::new(VSOCK_ID, "vsock", device))
}
