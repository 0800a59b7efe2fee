//! The host's side of a network device: a queue of a tap or macvtap link, or a packet socket that carries whole frames with
//! virtio-net headers.
//!
//! A link of several queues is several of these, each with a descriptor of its own. The host spreads the guest's flows over
//! the queues that are attached.

use super::header::HEADER_LEN;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicBool, Ordering};

/// `ioctl` numbers and flags of `linux/if_tun.h`.
const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
const TUNGETIFF: libc::c_ulong = 0x8004_54d2;
const TUNSETOFFLOAD: libc::c_ulong = 0x4004_54d0;
const TUNSETVNETHDRSZ: libc::c_ulong = 0x4004_54d8;
const TUNSETQUEUE: libc::c_ulong = 0x4004_54d9;
const TUNSETCARRIER: libc::c_ulong = 0x4004_54e2;
const FLAGS: libc::c_short = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
const MULTI_QUEUE: libc::c_short = libc::IFF_MULTI_QUEUE as libc::c_short;

/// What may be left undone in frames that the host sends to the guest (`TUN_F_*`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offloads(pub u32);

impl Offloads {
    /// Checksums; the others need this one.
    pub const CHECKSUM: u32 = 0x01;
    /// TCP segmentation over IPv4.
    pub const TSO4: u32 = 0x02;
    /// TCP segmentation over IPv6.
    pub const TSO6: u32 = 0x04;
    /// TCP segmentation with congestion notification.
    pub const ECN: u32 = 0x08;
    /// UDP fragmentation.
    pub const UFO: u32 = 0x10;
    /// UDP segmentation over IPv4, Linux 6.2 and later.
    pub const USO4: u32 = 0x20;
    /// UDP segmentation over IPv6, Linux 6.2 and later.
    pub const USO6: u32 = 0x40;
    /// All that older hosts know.
    const BASIC: u32 = Self::CHECKSUM | Self::TSO4 | Self::TSO6 | Self::ECN | Self::UFO;
}

/// Why a tap cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// The name does not fit.
    #[error("tap name {0:?} is empty, longer than 15 bytes or has a zero byte")]
    Name(String),
    /// A system call failed.
    #[error("cannot {what} tap {name:?}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Name of the tap, or the number of its descriptor.
        name: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The descriptor is something else.
    #[error(
        "descriptor of tap {0:?} is no tap with virtio-net headers; attach it with IFF_TAP, IFF_NO_PI and IFF_VNET_HDR, or open a macvtap link's /dev/tapN"
    )]
    NotATap(String),
    /// The link has one queue.
    #[error("tap {0:?} has one queue; make it with IFF_MULTI_QUEUE (ip tuntap add ... multi_queue)")]
    OneQueue(String),
    /// Descriptors of one device belong to different links.
    #[error("descriptor {0} is a queue of {1:?}, another link than {2:?}")]
    AnotherLink(RawFd, String, String),
}

/// An open queue of a tap.
#[derive(Debug)]
pub struct Tap {
    file: File,
    /// What the host can leave undone; nothing if this is a packet socket.
    offloads: Option<u32>,
    /// Whether the host gives frames to this queue.
    attached: AtomicBool,
}

/// `struct ifreq` as far as these calls use it.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; libc::IFNAMSIZ],
    flags: libc::c_short,
    padding: [u8; 22],
}

impl InterfaceRequest {
    fn new(flags: libc::c_short) -> Self {
        Self {
            name: [0; libc::IFNAMSIZ],
            flags,
            padding: [0; 22],
        }
    }

    fn name(&self) -> String {
        let name = self.name.split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(name).into_owned()
    }

    /// Makes a call that reads or writes such a structure.
    fn call(&mut self, file: &File, request: libc::c_ulong) -> io::Result<()> {
        // SAFETY: the requests of this file that are made here take one `ifreq`, of which ours has the size.
        check(unsafe { libc::ioctl(file.as_raw_fd(), request, &raw mut *self) })
    }
}

impl Tap {
    /// Opens a tap with one queue.
    pub fn open(name: &str) -> Result<Self, TapError> {
        match Self::open_queue(name, 0) {
            // Also a link that could have more will do.
            Err(TapError::System { source, .. }) if source.raw_os_error() == Some(libc::EINVAL) => {
                Self::open_queue(name, MULTI_QUEUE)
            }
            result => result,
        }
    }

    /// Opens so many queues of a tap.
    pub fn open_queues(name: &str, count: u16) -> Result<Vec<Self>, TapError> {
        if count == 1 {
            return Ok(vec![Self::open(name)?]);
        }
        let one_queue = |error| match error {
            TapError::System { source, .. } if source.raw_os_error() == Some(libc::EINVAL) => {
                TapError::OneQueue(name.to_owned())
            }
            error => error,
        };
        (0..count)
            .map(|_| Self::open_queue(name, MULTI_QUEUE).map_err(one_queue))
            .collect()
    }

    /// Attaches to the tap with this name; it is made if there is none and the caller may.
    fn open_queue(name: &str, more_flags: libc::c_short) -> Result<Self, TapError> {
        if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains('\0') {
            return Err(TapError::Name(name.to_owned()));
        }
        let mut request = InterfaceRequest::new(FLAGS | more_flags);
        request
            .name
            .iter_mut()
            .zip(name.bytes())
            .for_each(|(to, from)| *to = from);
        let failed = |what| {
            move |source| TapError::System {
                what,
                name: name.to_owned(),
                source,
            }
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open("/dev/net/tun")
            .map_err(failed("open /dev/net/tun for"))?;
        request.call(&file, TUNSETIFF).map_err(failed("attach to"))?;
        Self::configure(file, name)
    }

    /// Takes over an open descriptor of `/dev/net/tun` that is attached to its link, or of a macvtap link's `/dev/tapN`.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, TapError> {
        let name = fd.as_raw_fd().to_string();
        let file = File::from(fd);
        let mut request = InterfaceRequest::new(0);
        if request.call(&file, TUNGETIFF).is_err() || request.flags & FLAGS != FLAGS {
            return Err(TapError::NotATap(name));
        }
        set_nonblocking(file.as_raw_fd()).map_err(|source| TapError::System {
            what: "make non-blocking",
            name: name.clone(),
            source,
        })?;
        Self::configure(file, &name)
    }

    /// The same for the queues of one link.
    pub fn from_fds(fds: Vec<OwnedFd>) -> Result<Vec<Self>, TapError> {
        let taps: Vec<_> = fds.into_iter().map(Self::from_fd).collect::<Result<_, _>>()?;
        let mut link: Option<String> = None;
        for tap in &taps {
            let name = tap.link().unwrap_or_default();
            match &link {
                Some(link) if *link != name => {
                    return Err(TapError::AnotherLink(tap.fd(), name, link.clone()));
                }
                _ => link = Some(name),
            }
        }
        Ok(taps)
    }

    /// Takes over a socket that carries one frame with virtio-net header per packet (for tests and user-space switches).
    pub fn from_packet_socket(fd: OwnedFd) -> io::Result<Self> {
        set_nonblocking(fd.as_raw_fd())?;
        Ok(Self {
            file: File::from(fd),
            offloads: None,
            attached: AtomicBool::new(true),
        })
    }

    fn configure(file: File, name: &str) -> Result<Self, TapError> {
        let failed = |what| {
            move |source| TapError::System {
                what,
                name: name.to_owned(),
                source,
            }
        };
        let len = HEADER_LEN as libc::c_int;
        // SAFETY: TUNSETVNETHDRSZ reads one int.
        let result = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETVNETHDRSZ, &raw const len) };
        check(result).map_err(failed("set the header size of"))?;
        let mut tap = Self {
            file,
            offloads: None,
            attached: AtomicBool::new(true),
        };
        // The greatest set that the host takes tells what to offer to the driver.
        let all = Offloads::BASIC | Offloads::USO4 | Offloads::USO6;
        tap.offloads = [all, Offloads::BASIC, 0]
            .into_iter()
            .find(|set| tap.try_offloads(*set).is_ok());
        tap.set_offloads(Offloads(0))
            .map_err(failed("set the offloads of"))?;
        Ok(tap)
    }

    /// The offloads that can be set.
    pub fn offloads(&self) -> Offloads {
        Offloads(self.offloads.unwrap_or(0))
    }

    /// Lets the host leave these things undone in frames for the guest.
    pub fn set_offloads(&self, offloads: Offloads) -> io::Result<()> {
        match self.offloads {
            Some(known) => self.try_offloads(offloads.0 & known),
            None => Ok(()),
        }
    }

    fn try_offloads(&self, offloads: u32) -> io::Result<()> {
        // SAFETY: TUNSETOFFLOAD takes its argument by value.
        check(unsafe { libc::ioctl(self.fd(), TUNSETOFFLOAD, libc::c_ulong::from(offloads)) })
    }

    /// Whether the host gives frames to this queue and takes them from it; only for links with several queues. All are
    /// attached at first.
    pub fn attach(&self, attach: bool) -> io::Result<()> {
        if self.offloads.is_none() || self.attached.load(Ordering::Acquire) == attach {
            return Ok(());
        }
        let flag = if attach {
            libc::IFF_ATTACH_QUEUE
        } else {
            libc::IFF_DETACH_QUEUE
        };
        // A queue that is not attached looks like one whose link is gone, so this is said before it looks so.
        self.attached.store(false, Ordering::Release);
        let result = InterfaceRequest::new(flag as libc::c_short).call(&self.file, TUNSETQUEUE);
        self.attached.store(attach == result.is_ok(), Ordering::Release);
        result
    }

    /// Whether this is a queue whose link was deleted.
    pub fn is_gone(&self) -> bool {
        self.attached.load(Ordering::Acquire) && self.link().is_none()
    }

    /// The name of the link, unless that was deleted or does not give frames to this queue.
    pub fn link(&self) -> Option<String> {
        let mut request = InterfaceRequest::new(0);
        request.call(&self.file, TUNGETIFF).ok().map(|()| request.name())
    }

    /// Sets whether the host sees a cable in the link. Only taps know how to do that, not macvtap links.
    pub fn set_carrier(&self, carrier: bool) -> io::Result<()> {
        if self.offloads.is_none() {
            return Ok(());
        }
        let carrier = libc::c_int::from(carrier);
        // SAFETY: TUNSETCARRIER reads one int.
        check(unsafe { libc::ioctl(self.fd(), TUNSETCARRIER, &raw const carrier) })
    }

    /// The descriptor.
    pub fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Receives one frame with its header to scattered memory.
    ///
    /// # Safety
    ///
    /// The memory that `iovecs` name must stay mapped during the call.
    pub unsafe fn receive(&self, iovecs: &[libc::iovec]) -> io::Result<usize> {
        let count = i32::try_from(iovecs.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        // SAFETY: the vector is valid for `count` entries; the caller vouches for the memory they name.
        let len = unsafe { libc::readv(self.fd(), iovecs.as_ptr(), count) };
        usize::try_from(len).map_err(|_| io::Error::last_os_error())
    }

    /// Sends one frame with its header from scattered memory.
    ///
    /// # Safety
    ///
    /// The memory that `iovecs` name must stay mapped during the call.
    pub unsafe fn send(&self, iovecs: &[libc::iovec]) -> io::Result<usize> {
        let count = i32::try_from(iovecs.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        // SAFETY: the vector is valid for `count` entries; the caller vouches for the memory they name.
        let len = unsafe { libc::writev(self.fd(), iovecs.as_ptr(), count) };
        usize::try_from(len).map_err(|_| io::Error::last_os_error())
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn set_nonblocking(fd: RawFd) -> io::Result<()> {
    // SAFETY: these calls have no pointers.
    unsafe {
        let flags = libc::fcntl(fd, libc::F_GETFL);
        check(flags)?;
        check(libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK))
    }
}

#[cfg(test)]
#[path = "tap_tests.rs"]
mod tests;
