//! Taps: the host's end of a virtual machine's network card.
//!
//! A tap is opened here and handed to the VMM as a descriptor. It is not persistent: the kernel removes it
//! together with the last descriptor, so a VMM that dies leaves nothing behind.

use std::ffi::c_short;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use crate::{Error, Result};

/// The header before every frame: `struct virtio_net_hdr_v1` (virtio 1.3 §5.1.6), which all modern devices
/// use.
const HEADER_BYTES: libc::c_int = 12;

/// A tap to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TapSpec {
    /// The link's name on the host.
    pub host_name: String,
    /// The bridge to plug it into.
    pub bridge: String,
    /// Largest packet; the bridge's when `None`.
    pub mtu: Option<u32>,
    /// Whether further queues may be opened on it.
    pub multi_queue: bool,
    /// Whether it may talk to the bridge only, not to other isolated ports (`security.port_isolation`).
    pub isolated: bool,
}

/// Makes the tap; it is not plugged in yet. The name must have been checked.
pub(crate) fn open(spec: &TapSpec) -> Result<OwnedFd> {
    let path = "/dev/net/tun";
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)
        .map_err(Error::io("open", path))?;

    // SAFETY: all-zero bytes are a valid ifreq: it is made of integers and arrays of them.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // One byte less than there is room, so that the name ends with a zero.
    let room = request.ifr_name.len() - 1;
    for (slot, byte) in request.ifr_name.iter_mut().take(room).zip(spec.host_name.bytes()) {
        *slot = byte as libc::c_char;
    }
    let mut flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    if spec.multi_queue {
        flags |= libc::IFF_MULTI_QUEUE;
    }
    request.ifr_ifru.ifru_flags = flags as c_short;

    // SAFETY: TUNSETIFF reads and writes one ifreq, which lives across the call.
    if unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &mut request) } < 0 {
        return Err(Error::system(format!("make tap {}", spec.host_name))(
            io::Error::last_os_error(),
        ));
    }
    // SAFETY: TUNSETVNETHDRSZ reads one int, which lives across the call.
    if unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETVNETHDRSZ, &HEADER_BYTES) } < 0 {
        return Err(Error::system(format!(
            "set the header size of tap {}",
            spec.host_name
        ))(io::Error::last_os_error()));
    }
    Ok(file.into())
}
