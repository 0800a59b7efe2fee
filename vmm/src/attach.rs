//! Makes the configured virtio devices and puts each behind its transport, on the PCI bus or as virtio-mmio.
//!
//! This is the one place that knows all kinds of devices.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex};

use devices::bus::{Bus, BusError};
use devices::pci::{PciBus, PciError};
use devices::virtio::block::{self, Block};
use devices::virtio::console::{self, Console};
use devices::virtio::device::{DeviceError, VirtioDevice};
use devices::virtio::net::{self, Net, Tap};
use devices::virtio::rng::{self, Rng};
use devices::virtio::transport::mmio::{self, VirtioMmio};
use devices::virtio::transport::pci::VirtioPci;
use devices::virtio::transport::{Machine as Environment, TransportError};
use devices::virtio::vsock::{self, Vsock};
use devices::virtio::worker::Virtio;
use thiserror::Error;

use crate::arch::layout;
use crate::config::{DiskConfig, NetConfig, VmConfig, VsockConfig};
use crate::control::state::DeviceInfo;
use crate::device_manager::DeviceManager;
use crate::kvm::interrupts::{Interrupts, Messages};
use crate::machine::lock;
use crate::unix_path;

/// Ethernet's.
const DEFAULT_MTU: u16 = 1500;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a device could not be had.
#[derive(Debug, Error)]
pub enum AttachError {
    /// What the device stands on could not be opened or used.
    #[error("cannot make the {kind} device {id:?} with {what}: {source}")]
    Device {
        /// Kind of device.
        kind: &'static str,
        /// Its id.
        id: String,
        /// Path, link or socket.
        what: String,
        /// What went wrong.
        source: BoxError,
    },
    /// The transport could not be made.
    #[error("cannot attach the device {id:?}: {source}")]
    Transport {
        /// The device's id.
        id: String,
        /// What went wrong.
        source: TransportError,
    },
    /// The PCI bus has no room.
    #[error("cannot attach the device {id:?}: {source}")]
    Pci {
        /// The device's id.
        id: String,
        /// What went wrong.
        source: PciError,
    },
    /// There are more virtio-mmio devices than interrupts.
    #[error(
        "cannot attach the device {id:?}: virtio-mmio has room for {most} devices; use \"transport\": \"pci\""
    )]
    NoPin {
        /// The device's id.
        id: String,
        /// Number of interrupts.
        most: usize,
    },
    /// An interrupt line could not be had.
    #[error("cannot get an interrupt for the device {id:?}: {source}")]
    Line {
        /// The device's id.
        id: String,
        /// What the system said.
        source: io::Error,
    },
    /// Two devices at one address: a defect of this program.
    #[error(transparent)]
    Bus(#[from] BusError),
}

enum Transport {
    Pci(Arc<Mutex<VirtioPci>>),
    Mmio(Arc<Mutex<VirtioMmio>>),
}

/// A device in its place.
pub struct Attached {
    /// What `GET /devices` says of it.
    pub info: DeviceInfo,
    transport: Transport,
}

impl Attached {
    /// Stops the device's work.
    pub fn pause(&self) -> Result<(), DeviceError> {
        match &self.transport {
            Transport::Pci(transport) => lock(transport).pause(),
            Transport::Mmio(transport) => lock(transport).pause(),
        }
    }

    /// Lets it go on.
    pub fn resume(&self) -> Result<(), DeviceError> {
        match &self.transport {
            Transport::Pci(transport) => lock(transport).resume(),
            Transport::Mmio(transport) => lock(transport).resume(),
        }
    }

    /// The device's counters; `null` while a vCPU is at its registers. That can last, as a reset waits for what is in
    /// flight, and whoever asks for counters must not wait with it.
    #[must_use]
    pub fn metrics(&self) -> serde_json::Value {
        match &self.transport {
            Transport::Pci(transport) => transport
                .try_lock()
                .map_or_else(|_| Default::default(), |held| held.device().metrics()),
            Transport::Mmio(transport) => transport
                .try_lock()
                .map_or_else(|_| Default::default(), |held| held.device().metrics()),
        }
    }
}

/// A device that has no place yet.
pub struct Made {
    id: String,
    kind: &'static str,
    device: Box<dyn VirtioDevice>,
}

impl Made {
    fn new<B: devices::virtio::worker::Backend>(id: &str, kind: &'static str, backend: B) -> Self {
        Self {
            id: id.to_owned(),
            kind,
            device: Box::new(Virtio::new(backend)),
        }
    }
}

/// Makes all devices of a configuration, in the order in which the guest shall find them. The stream is the host's
/// end of the virtio console.
pub fn make_all(config: &VmConfig) -> Result<(Vec<Made>, Option<UnixStream>), AttachError> {
    let mut made = Vec::new();
    for disk in &config.disks {
        made.push(make_disk(config, disk)?);
    }
    for net in &config.nets {
        made.push(make_net(net)?);
    }
    if let Some(vsock) = &config.vsock {
        made.push(make_vsock(config, vsock)?);
    }
    if config.rng {
        made.push(Made::new("rng", "rng", Rng::new(rng::Config::default())));
    }
    let mut hvc = None;
    if config.console {
        let (ours, device) = make_console()?;
        hvc = Some(ours);
        made.push(device);
    }
    Ok((made, hvc))
}

fn failed<'a, E: Into<BoxError>>(
    kind: &'static str,
    id: &'a str,
    what: impl ToString + 'a,
) -> impl FnOnce(E) -> AttachError + 'a {
    move |source| AttachError::Device {
        kind,
        id: id.to_owned(),
        what: what.to_string(),
        source: source.into(),
    }
}

fn make_disk(config: &VmConfig, disk: &DiskConfig) -> Result<Made, AttachError> {
    let path = config.resolve(&disk.path);
    let file = open_disk(&path, disk.read_only).map_err(failed("block", &disk.id, path.display()))?;
    let serial = disk
        .serial
        .clone()
        .unwrap_or_else(|| disk.id.chars().take(20).collect());
    let device_config = block::Config {
        serial,
        read_only: disk.read_only,
        ..Default::default()
    };
    let block = Block::new(device_config, file).map_err(failed("block", &disk.id, path.display()))?;
    Ok(Made::new(&disk.id, "block", block))
}

/// Opens a disk and takes a lock on it: two VMs that write to one disk destroy its file system.
fn open_disk(path: &Path, read_only: bool) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(!read_only)
        .custom_flags(libc::O_CLOEXEC)
        .open(path)?;
    let lock = if read_only { libc::LOCK_SH } else { libc::LOCK_EX };
    // SAFETY: the descriptor is open and the call touches no memory.
    if unsafe { libc::flock(file.as_raw_fd(), lock | libc::LOCK_NB) } != 0 {
        let error = io::Error::last_os_error();
        if error.kind() == io::ErrorKind::WouldBlock {
            return Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "another VM or program uses it",
            ));
        }
        return Err(error);
    }
    Ok(file)
}

fn make_net(config: &NetConfig) -> Result<Made, AttachError> {
    let (tap, what) = match (&config.tap, config.fd) {
        (Some(name), _) => (Tap::open(name), format!("tap {name}")),
        (None, Some(fd)) => {
            let what = format!("descriptor {fd}");
            // SAFETY: asks for the flags of a number, whether it is open or not.
            if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
                let error = io::Error::new(
                    io::ErrorKind::NotFound,
                    "it is not open; pass it on to this process",
                );
                return Err(failed("net", &config.id, what)(error));
            }
            // SAFETY: the descriptor is open, `main` kept it open for this use only, and each number is used once:
            // configurations with doubles are refused.
            let fd_owned = unsafe { OwnedFd::from_raw_fd(fd) };
            (Tap::from_fd(fd_owned), what)
        }
        (None, None) => {
            return Err(failed("net", &config.id, "nothing")(
                "neither tap nor fd is given",
            ));
        }
    };
    let tap = tap.map_err(failed("net", &config.id, &what))?;
    let device_config = net::Config {
        mac: net::MacAddress(config.mac.0),
        mtu: config.mtu.unwrap_or(DEFAULT_MTU),
    };
    let net = Net::new(device_config, tap).map_err(failed("net", &config.id, &what))?;
    Ok(Made::new(&config.id, "net", net))
}

fn make_vsock(config: &VmConfig, vsock: &VsockConfig) -> Result<Made, AttachError> {
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

fn make_console() -> Result<(UnixStream, Made), AttachError> {
    let make = || {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        theirs.set_nonblocking(true)?;
        let input = theirs.try_clone()?;
        let device = Console::new(console::Config::default(), Some(input.into()), theirs.into())?;
        Ok::<_, io::Error>((ours, device))
    };
    let (ours, device) = make().map_err(failed("console", "console", "a socket pair"))?;
    Ok((ours, Made::new("console", "console", device)))
}

/// Puts devices on the PCI bus.
pub fn attach_pci(
    made: Vec<Made>,
    bus: &PciBus,
    interrupts: &Arc<Interrupts>,
    environment: &Environment,
    manager: &DeviceManager,
) -> Result<Vec<Attached>, AttachError> {
    let messages = Messages(interrupts.clone());
    let mut attached = Vec::with_capacity(made.len());
    for Made { id, kind, device } in made {
        let transport =
            VirtioPci::new(manager.manage(device), &messages, environment.clone()).map_err(|source| {
                AttachError::Transport {
                    id: id.clone(),
                    source,
                }
            })?;
        let transport = Arc::new(Mutex::new(transport));
        let slot = bus
            .add(None, transport.clone())
            .map_err(|source| AttachError::Pci {
                id: id.clone(),
                source,
            })?;
        let info = DeviceInfo {
            id,
            kind: kind.to_owned(),
            address: format!("0000:00:{slot:02x}.0"),
        };
        attached.push(Attached {
            info,
            transport: Transport::Pci(transport),
        });
    }
    Ok(attached)
}

/// Address and interrupt of a virtio-mmio device.
pub type MmioPlace = (u64, u32);

/// Puts devices at addresses of their own. Also returns address and interrupt of each, for the ACPI tables.
pub fn attach_mmio(
    made: Vec<Made>,
    bus: &Bus,
    interrupts: &Arc<Interrupts>,
    environment: &Environment,
    manager: &DeviceManager,
) -> Result<(Vec<Attached>, Vec<MmioPlace>), AttachError> {
    let mut attached = Vec::with_capacity(made.len());
    let mut places = Vec::with_capacity(made.len());
    let mut pins = layout::MMIO_IRQS;
    for (Made { id, kind, device }, index) in made.into_iter().zip(0u64..) {
        let Some(pin) = pins.next() else {
            return Err(AttachError::NoPin {
                id,
                most: layout::MMIO_IRQS.len(),
            });
        };
        let address = layout::VIRTIO_MMIO + index * mmio::SIZE;
        let line = interrupts.line(pin).map_err(|source| AttachError::Line {
            id: id.clone(),
            source,
        })?;
        let transport = VirtioMmio::new(manager.manage(device), address, line, environment.clone()).map_err(
            |source| AttachError::Transport {
                id: id.clone(),
                source,
            },
        )?;
        let transport = Arc::new(Mutex::new(transport));
        bus.insert(address, mmio::SIZE, transport.clone())?;
        places.push((address, pin));
        let info = DeviceInfo {
            id,
            kind: kind.to_owned(),
            address: format!("{address:#x}"),
        };
        attached.push(Attached {
            info,
            transport: Transport::Mmio(transport),
        });
    }
    Ok((attached, places))
}
