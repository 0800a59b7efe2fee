//! The host's side of a network device: a tap, or anything that speaks in whole frames with virtio-net headers.
use std::io;
use std::os::fd::OwnedFd;
/// x
pub struct Tap {}
impl Tap {
    /// Opens (or makes) the tap with this name.
    pub fn open(_name: &str) -> io::Result<Self> {
        todo!()
    }
    /// Takes over an open tap descriptor (of `/dev/net/tun`, attached to its link).
    pub fn from_fd(_fd: OwnedFd) -> io::Result<Self> {
        todo!()
    }
}
