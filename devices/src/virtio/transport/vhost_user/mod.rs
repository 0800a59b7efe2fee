//! Vhost-user as a transport: carries any [`VirtioDevice`] to a driver in the VM of another process, whoever made that.
//!
//! A front end (a VMM) connects to a socket and sends its guest's memory, the places of its rings and event descriptors;
//! the messages are those of the vhost-user protocol (QEMU's `docs/interop/vhost-user.rst`), taken apart by the `vhost`
//! crate. A device starts all its queues at once, while a front end starts and stops them one by one: so the device is
//! restarted with other queues whenever the set of running rings changes, which costs a thread's start.
//!
//! The front end is as hostile as a guest. What it can break is this process, of which every VM has its own.

mod early;
mod in_flight;
mod memory;
mod messages;
mod ring;

use super::registers;
use crate::memory::{Memory, Ram};
use crate::virtio::device::{Activation, DeviceError, DeviceType, Reset, VirtioDevice};
use crate::virtio::net::features;
use crate::virtio::queue::{Queue, QueueState};
use crate::virtio::worker::ThreadHook;
use early::take_enable;
use in_flight::InFlight;
use memory::Regions;
use ring::{Calls, Ring};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use vhost::vhost_user::{
    BackendReqHandler, Error, Result, VhostUserBackendReqHandlerMut, VhostUserProtocolFeatures,
    VhostUserVirtioFeatures,
};
use virtio_bindings::virtio_config::{VIRTIO_F_RING_PACKED, VIRTIO_F_VERSION_1};
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace};

/// What we offer of the protocol for all devices.
const PROTOCOL: VhostUserProtocolFeatures = VhostUserProtocolFeatures::MQ
    .union(VhostUserProtocolFeatures::REPLY_ACK)
    .union(VhostUserProtocolFeatures::CONFIG)
    .union(VhostUserProtocolFeatures::RESET_DEVICE)
    .union(VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS);

/// The same for devices whose requests can be done again.
const BLOCK_PROTOCOL: VhostUserProtocolFeatures = PROTOCOL.union(VhostUserProtocolFeatures::INFLIGHT_SHMFD);

/// How often a reset is looked after that is not done at once.
const RESET_POLL: Duration = Duration::from_millis(10);
/// How often it is looked whether the front end has gone that waits for one.
const LOOK_AFTER: Duration = Duration::from_secs(1);

/// Waits until a device that is not to serve anybody has nothing in flight any more, for so long at most. Returns whether it
/// came to that. A front end is not told of what still is in flight, and the memory it is about is the guest's.
pub fn rest(device: &mut dyn VirtioDevice, patience: Duration) -> bool {
    let began = Instant::now();
    while device.reset() == Reset::Pending {
        if began.elapsed() >= patience {
            return false;
        }
        std::thread::sleep(RESET_POLL);
    }
    true
}

/// Serves one front end until it disconnects. The device comes back reset, and can be served again once it is at [`rest`].
pub fn serve(
    device: Box<dyn VirtioDevice>,
    front_end: UnixStream,
    thread_hook: ThreadHook,
) -> (Option<Box<dyn VirtioDevice>>, Result<()>) {
    let streams = front_end
        .try_clone()
        .and_then(|early| Ok((early, front_end.try_clone()?)));
    let (early, watched) = match streams {
        Ok(streams) => streams,
        Err(error) => return (Some(device), Err(Error::SocketError(error))),
    };
    let server = Arc::new(Mutex::new(VhostUser::new(device, watched, thread_hook)));
    let result = converse(&server, early, front_end);
    // Nobody else has the server by now.
    let device = Arc::into_inner(server).map(|server| {
        let mut server = server.into_inner().unwrap_or_else(PoisonError::into_inner);
        server.device.reset();
        server.device
    });
    (device, result)
}

/// Takes one message after the other, until the front end is gone or says what cannot be. `early` is the connection, too.
fn converse(server: &Arc<Mutex<VhostUser>>, mut early: UnixStream, front_end: UnixStream) -> Result<()> {
    let lock = || server.lock().unwrap_or_else(PoisonError::into_inner);
    let enable = |ring, wanted| lock().set_vring_enable(ring, wanted).is_ok();
    let mut handler = BackendReqHandler::from_stream(front_end, server.clone());
    loop {
        let agreed = lock().features & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() != 0;
        if !agreed && take_enable(&mut early, enable).map_err(Error::ReqHandlerError)? {
            continue;
        }
        match handler.handle_request() {
            Ok(()) => {}
            Err(Error::Disconnected | Error::SocketBroken(_)) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// A device and what its front end has said so far.
struct VhostUser {
    device: Box<dyn VirtioDevice>,
    front_end: UnixStream,
    thread_hook: ThreadHook,
    memory: Memory,
    regions: Regions,
    rings: Vec<Ring>,
    calls: Arc<Calls>,
    features: u64,
    in_flight: Option<InFlight>,
    /// Which rings the device works on; none while it rests.
    running: Vec<bool>,
}

/// Features that concern what a front end sees to itself: a network card's control queue.
fn front_ends_own(device: DeviceType) -> u64 {
    let bits: &[u32] = match device {
        DeviceType::Net => &[
            features::CTRL_GUEST_OFFLOADS,
            features::CTRL_VQ,
            features::CTRL_RX,
            features::CTRL_RX_EXTRA,
            features::GUEST_ANNOUNCE,
            features::MQ,
            features::CTRL_MAC_ADDR,
        ],
        _ => &[],
    };
    bits.iter().fold(0, |own, bit| own | 1 << bit)
}

fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::ReqHandlerError(io::Error::other(error))
}

impl VhostUser {
    fn new(device: Box<dyn VirtioDevice>, front_end: UnixStream, thread_hook: ThreadHook) -> Self {
        let rings: Vec<_> = device.queue_sizes().iter().copied().map(Ring::new).collect();
        Self {
            device,
            front_end,
            thread_hook,
            memory: Memory::new(Ram::new()),
            regions: Regions::default(),
            calls: Arc::new(Calls::new(rings.len())),
            running: vec![false; rings.len()],
            rings,
            in_flight: None,
            features: 0,
        }
    }

    /// Resets the device, unless the front end goes away meanwhile.
    fn reset(&mut self) -> Result<()> {
        while !rest(&mut *self.device, LOOK_AFTER) {
            self.check_front_end()?;
        }
        Ok(())
    }

    /// Whether there still is somebody to wait for.
    fn check_front_end(&self) -> Result<()> {
        let mut hangup = libc::pollfd {
            fd: self.front_end.as_raw_fd(),
            events: libc::POLLRDHUP,
            revents: 0,
        };
        // SAFETY: there is one such structure, which lives for the call.
        match unsafe { libc::poll(&raw mut hangup, 1, 0) } {
            0 => Ok(()),
            _ => Err(Error::Disconnected),
        }
    }

    fn protocol(&self) -> VhostUserProtocolFeatures {
        match self.device.device_type() {
            DeviceType::Block => BLOCK_PROTOCOL,
            _ => PROTOCOL,
        }
    }

    fn offered(&self) -> u64 {
        // A packed ring's place would be told by the same messages in another way.
        let unfit = 1 << VIRTIO_F_RING_PACKED | front_ends_own(self.device.device_type());
        let device = registers::offered(&*self.device) & !unfit;
        device | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
    }

    fn ring(&mut self, index: impl TryInto<usize>) -> Result<&mut Ring> {
        let index = index.try_into().map_err(|_| Error::InvalidParam)?;
        self.rings.get_mut(index).ok_or(Error::InvalidParam)
    }

    /// Has the device work on the rings that shall run, and on no others.
    fn follow(&mut self) -> Result<()> {
        let wanted: Vec<_> = self.rings.iter().map(Ring::runs).collect();
        if wanted == self.running {
            return Ok(());
        }
        self.stop()?;
        match wanted.contains(&true) {
            true => self.start(wanted),
            false => Ok(()),
        }
    }

    /// Stops the device, keeping where its rings stand.
    fn stop(&mut self) -> Result<()> {
        if !self.running.contains(&true) {
            return Ok(());
        }
        loop {
            match self.device.pause() {
                Err(DeviceError::Busy { .. }) => self.check_front_end()?,
                paused => break paused.map_err(failed)?,
            }
        }
        for (ring, state) in self.rings.iter_mut().zip(self.device.queue_states()) {
            if state.ready {
                ring.next_available = state.next_available;
            }
        }
        self.reset()?;
        self.running.fill(false);
        Ok(())
    }

    fn start(&mut self, wanted: Vec<bool>) -> Result<()> {
        if self.features & 1 << VIRTIO_F_VERSION_1 == 0 {
            return Err(failed(
                "the driver does without VIRTIO_F_VERSION_1; legacy drivers are not served",
            ));
        }
        let ram = self.memory.memory();
        let mut queues = Vec::with_capacity(self.rings.len());
        for ((ring, &runs), index) in self.rings.iter().zip(&wanted).zip(0..) {
            let state = match runs {
                true => self.state(ring, &ram)?,
                false => QueueState::default(),
            };
            let notify = match &ring.kick {
                Some(kick) if runs => kick.try_clone().map_err(failed)?,
                _ => vmm_sys_util::eventfd::EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)
                    .map_err(failed)?,
            };
            let queue = Queue::new(
                index,
                ring.max_size,
                &state,
                self.features,
                self.memory.clone(),
                self.calls.clone(),
                notify,
            );
            let mut queue = queue.map_err(failed)?;
            let record = self.in_flight.as_ref();
            if let Some(record) = record.and_then(|record| record.of_ring(index, ring.size)) {
                queue.keep_record(record);
            }
            queues.push(queue);
        }
        let activation = Activation {
            memory: self.memory.clone(),
            queues,
            interrupt: self.calls.clone(),
            features: self.features & !VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits(),
            thread_hook: self.thread_hook.clone(),
        };
        self.device.activate(activation).map_err(failed)?;
        self.running = wanted;
        Ok(())
    }

    /// Where a ring lies in guest memory and how far it has come.
    fn state(&self, ring: &Ring, ram: &Ram) -> Result<QueueState> {
        let addresses = ring.addresses.ok_or(Error::InvalidParam)?;
        let guest = |user: u64| {
            let missing = || failed(format!("a ring at {user:#x}, which is in no memory region"));
            self.regions.guest_address(user).ok_or_else(missing)
        };
        let used_ring = guest(addresses.used_ring)?;
        // The index of the used ring follows its flags (virtio 1.3 §2.7.8). Only the device writes it, so it says how far
        // the device has come, and a hostile driver that changes it confuses only itself.
        let next_used = used_ring
            .checked_add(2)
            .and_then(|index| ram.read_obj::<[u8; 2]>(GuestAddress(index)).ok());
        Ok(QueueState {
            size: ring.size,
            ready: true,
            descriptor_table: guest(addresses.descriptor_table)?,
            available_ring: guest(addresses.available_ring)?,
            used_ring,
            next_available: ring.next_available,
            next_used: u16::from_le_bytes(next_used.ok_or_else(|| failed("a used ring outside of memory"))?),
            ..QueueState::default()
        })
    }

    /// Exchanges guest memory. Rings keep their places in the front end's process, which may be others in guest memory.
    fn set_regions(&mut self, regions: Regions) -> Result<()> {
        let ram = regions.ram()?;
        self.stop()?;
        self.regions = regions;
        self.memory
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .replace(ram);
        self.follow()
    }

    fn forget_driver(&mut self) -> Result<()> {
        self.reset()?;
        self.running.fill(false);
        self.in_flight = None;
        self.features = 0;
        for ring in &mut self.rings {
            *ring = Ring::new(ring.max_size);
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
