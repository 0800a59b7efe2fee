//! The socket device.

use devices::virtio::vsock::{self, Vsock};

use super::{AttachError, Made, failed};
use crate::config::{VmConfig, VsockConfig};
use crate::unix_path;

/// Makes the socket device.
pub(super) fn make(config: &VmConfig, vsock: &VsockConfig) -> Result<Made, AttachError> {
    let socket = config.resolve(&vsock.socket);
    let listener = unix_path::bind(&socket).map_err(failed("vsock", "vsock", socket.display()))?;
    let device_config = vsock::Config {
        cid: vsock.cid,
        socket: socket.clone(),
    };
    let device =
        Vsock::with_listener(device_config, listener).map_err(failed("vsock", "vsock", socket.display()))?;
    Ok(Made::new("vsock", "vsock", device))
}
