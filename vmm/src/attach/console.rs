//! The virtio console and its ports.

use std::io;
use std::os::unix::net::UnixStream;

use devices::virtio::console::{Console, HostEnd, PortConfig};

use super::{AttachError, Made, failed};
use crate::config::VmConfig;
use crate::host_file;

/// Makes a virtio console. The stream is the host's end of its first port.
pub(super) fn make(config: &VmConfig) -> Result<(UnixStream, Made), AttachError> {
    let pair = || {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        Ok::<_, io::Error>((ours, theirs))
    };
    let (ours, theirs) = pair().map_err(failed("console", "console", "a socket pair"))?;
    let mut ports = vec![(PortConfig::default(), HostEnd::Stream(theirs))];
    for port in &config.console_ports {
        let socket = config.resolve(&port.socket);
        let listener = host_file::listen(&socket).map_err(failed("console", "console", socket.display()))?;
        let port = PortConfig {
            name: port.name.clone(),
            terminal: port.terminal,
            ..PortConfig::default()
        };
        ports.push((port, HostEnd::Listener(listener)));
    }
    let device = Console::new(ports).map_err(failed("console", "console", "its sockets"))?;
    Ok((ours, Made::new("console", "console", device)))
}
