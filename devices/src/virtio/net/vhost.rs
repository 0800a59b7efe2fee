//! The network card whose frames the host's kernel moves (vhost-net): each pair of queues has a thread of the kernel that
//! copies between guest memory and the tap, without a system call or a wake-up of this process for a frame.
//!
//! The worker serves the control queue, which is ours alone, and sets up the rest. What a frame holds is not looked at
//! here, so there are no receive filters and no limits.

use super::features::{self, CTRL_RX, CTRL_RX_EXTRA, CTRL_VQ, MRG_RXBUF};
use super::metrics::CommandMetrics;
use super::shared::{DriverState, Shared};
use super::{Config, NetError, QUEUE_SIZE, State, Tap, Update};
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::virtio::config_space::ConfigSpace;
use crate::virtio::device::DeviceType;
use crate::virtio::queue;
use crate::virtio::update::{self, UpdateError, UpdateResult};
use crate::virtio::vhost::calls::{CallMetrics, Calls};
use crate::virtio::vhost::rings::{Addressing, memory_table, set_up};
use crate::virtio::worker::{Backend, Io};
use serde::Serialize;
use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use vhost::VhostBackend;
use vhost::vhost_kern::VhostKernBackend;
use vhost::vhost_kern::vhost_binding::{VHOST_NET_F_VIRTIO_NET_HDR, VHOST_NET_SET_BACKEND, vhost_vring_file};
use vm_memory::GuestAddressSpace;
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::ioctl::ioctl_with_ref;

/// Where the kernel has it.
const DEVICE: &str = "/dev/vhost-net";

/// Why the kernel cannot serve a card.
#[derive(Debug, thiserror::Error)]
pub enum VhostNetError {
    /// The host has no vhost-net, or this process may not use it.
    #[error("cannot open {DEVICE}: {0}; load the module vhost_net, or leave `vhost` out")]
    Open(#[source] io::Error),
    /// There is not one instance for each pair of queues.
    #[error("{instances} instances of vhost-net for {pairs} pairs of queues; give one for each")]
    Instances {
        /// Instances that were given.
        instances: usize,
        /// Pairs of queues.
        pairs: usize,
    },
    /// The kernel refuses.
    #[error("vhost-net does not go along: {0}")]
    Kernel(#[from] vhost::Error),
    /// What concerns the card rather than the kernel.
    #[error(transparent)]
    Net(#[from] NetError),
}

/// The device's counters. Frames are counted by the host's link.
#[derive(Debug, Default, Serialize)]
struct VhostNetMetrics {
    #[serde(flatten)]
    commands: CommandMetrics,
    #[serde(flatten)]
    calls: CallMetrics,
}

/// An instance of vhost-net together with the memory that addresses are of.
struct Kernel<'a> {
    file: &'a File,
    memory: &'a Memory,
}

impl AsRawFd for Kernel<'_> {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl VhostKernBackend for Kernel<'_> {
    type AS = Memory;

    fn mem(&self) -> &Memory {
        self.memory
    }
}

/// Has an instance move the frames of one of its two rings from or to a tap, or leave that.
fn set_tap(file: &File, ring: u32, tap: Option<&Tap>) -> vhost::Result<()> {
    let file_of_ring = vhost_vring_file {
        index: ring,
        fd: tap.map_or(-1, Tap::fd),
    };
    // SAFETY: the request reads one such structure.
    match unsafe { ioctl_with_ref(file, VHOST_NET_SET_BACKEND(), &file_of_ring) } {
        0 => Ok(()),
        _ => Err(vhost::Error::IoctlError(io::Error::last_os_error())),
    }
}

/// The network card.
pub struct VhostNet {
    config: Config,
    shared: Arc<Shared>,
    metrics: Arc<VhostNetMetrics>,
    /// One for each pair of queues.
    instances: Vec<File>,
    /// So many of them have this process as their owner.
    owned: usize,
    /// Whether the instance has a tap to work on.
    working: Vec<bool>,
    kernel_features: u64,
    calls: Calls,
    /// Between start and stop of the worker.
    running: bool,
}

impl VhostNet {
    /// Opens so many instances of vhost-net.
    pub fn open_instances(count: usize) -> Result<Vec<File>, VhostNetError> {
        let open = || {
            OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags(libc::O_CLOEXEC | libc::O_NONBLOCK)
                .open(DEVICE)
                .map_err(VhostNetError::Open)
        };
        (0..count).map(|_| open()).collect()
    }

    /// Makes a network card with a pair of queues for each queue of the host's link, which has to be a tap or macvtap.
    pub fn new(config: Config, taps: Vec<Tap>, instances: Vec<File>) -> Result<Self, VhostNetError> {
        if instances.len() != taps.len() {
            return Err(VhostNetError::Instances {
                instances: instances.len(),
                pairs: taps.len(),
            });
        }
        let shared = Shared::new(taps, &config)?;
        let memory = Memory::new(crate::memory::Ram::new());
        let mut kernel_features = u64::MAX;
        for file in &instances {
            let kernel = Kernel {
                file,
                memory: &memory,
            };
            kernel_features &= kernel.get_features()?;
        }
        Ok(Self {
            calls: Calls::new(usize::from(shared.pairs()) * 2).map_err(NetError::Timer)?,
            owned: 0,
            working: vec![false; instances.len()],
            running: false,
            metrics: Arc::default(),
            shared: Arc::new(shared),
            config,
            instances,
            kernel_features,
        })
    }

    /// Makes the device again as it was saved.
    pub fn restore(state: State, taps: Vec<Tap>, instances: Vec<File>) -> Result<Self, VhostNetError> {
        let net = Self::new(state.config.clone(), taps, instances)?;
        net.shared.restore(state)?;
        Ok(net)
    }

    /// Pairs of queues that a driver with these features knows of.
    fn pairs(&self, features: u64) -> u16 {
        features::pairs(features, self.shared.pairs())
    }

    /// Makes the instances this process' own, the first time. The kernel then starts a thread in this process for each, which
    /// has the caller's user and filters: so it is done by the worker, once the process has given up what it had.
    fn own(&mut self, memory: &Memory) -> vhost::Result<()> {
        for file in self.instances.iter().skip(self.owned) {
            Kernel { file, memory }.set_owner()?;
            self.owned += 1;
        }
        Ok(())
    }

    /// Sets up all pairs of queues, without a tap to work on.
    fn set_up(&self, io: &Io) -> vhost::Result<()> {
        let ram = io.memory.memory();
        for (file, pair) in self.instances.iter().zip(0..self.pairs(io.features)) {
            let kernel = Kernel {
                file,
                memory: &io.memory,
            };
            // The tap has the header; everything else that both know is left to the kernel.
            let features = io.features & self.kernel_features & !(1 << VHOST_NET_F_VIRTIO_NET_HDR);
            kernel.set_features(features)?;
            kernel.set_mem_table(&memory_table(&ram))?;
            let queues = io.queues.iter().skip(2 * usize::from(pair));
            for (queue, ring) in queues.take(2).zip(0..).filter(|(queue, _)| queue.is_ready()) {
                set_up(&kernel, ring, queue, &self.calls, &ram, Addressing::Guest)?;
            }
        }
        Ok(())
    }

    /// Gives taps to the pairs that the driver uses, while the link is up, and takes them from the others.
    fn follow(&mut self, io: &Io) -> vhost::Result<()> {
        let active = self.shared.driver().active_pairs.min(self.pairs(io.features));
        let pairs = self.instances.iter().zip(&mut self.working);
        for (((file, working), tap), pair) in pairs.zip(&self.shared.taps).zip(0..) {
            let wanted = self.running && pair < active && self.shared.link_up();
            if *working == wanted {
                continue;
            }
            let queues = io.queues.iter().skip(2 * usize::from(pair));
            for (queue, ring) in queues.take(2).zip(0..).filter(|(queue, _)| queue.is_ready()) {
                set_tap(file, ring, wanted.then_some(tap))?;
                if wanted {
                    // What the driver added before has nobody else who tells.
                    queue.wake_again();
                }
            }
            *working = wanted;
        }
        Ok(())
    }

    /// The kernel does not do as it should; the driver has to begin again.
    fn fail(&self, error: &vhost::Error, io: &Io) {
        tracing::error!(%error, "vhost-net failed");
        io.interrupt.needs_reset();
    }
}

impl Backend for VhostNet {
    type State = State;

    fn device_type(&self) -> DeviceType {
        DeviceType::Net
    }

    fn thread_name(&self) -> String {
        "virtio-vhost-net".to_owned()
    }

    fn features(&self) -> u64 {
        let offered = features::offered(self.shared.known_offloads(), self.shared.pairs());
        let unfit = 1 << CTRL_RX | 1 << CTRL_RX_EXTRA | (!self.kernel_features & 1 << MRG_RXBUF);
        offered & !unfit
    }

    fn ring_features(&self) -> u64 {
        self.kernel_features & queue::SPLIT_FEATURES
    }

    fn queue_sizes(&self) -> Vec<u16> {
        // The last is the control queue, unless the driver knows of one pair only.
        vec![QUEUE_SIZE; 2 * usize::from(self.shared.pairs()) + 1]
    }

    fn config(&self) -> Arc<ConfigSpace> {
        self.shared.space.clone()
    }

    fn metrics(&self) -> Arc<dyn Metrics> {
        self.metrics.clone()
    }

    fn serves(&self, queue: u16, features: u64) -> bool {
        features::has(features, CTRL_VQ) && queue == 2 * self.pairs(features)
    }

    fn start(&mut self, io: &mut Io) -> io::Result<()> {
        self.calls.register(io)?;
        self.shared.prepare(io.features)?;
        self.running = true;
        let owned = self.own(&io.memory);
        let started = owned
            .and_then(|()| self.set_up(io))
            .and_then(|()| self.follow(io));
        if started.is_err() {
            self.quiesce(io);
        }
        started.map_err(io::Error::other)
    }

    fn queue_ready(&mut self, queue: usize, io: &mut Io) {
        self.shared.serve_commands(queue, io, &self.metrics.commands);
        if let Err(error) = self.follow(io) {
            self.fail(&error, io);
        }
    }

    fn event(&mut self, token: u32, _events: EventSet, io: &mut Io) {
        self.calls.event(token, io, &self.metrics.calls);
    }

    fn refresh(&mut self, io: &mut Io) {
        self.calls.refresh(io);
        let ram = io.memory.memory();
        for (file, pair) in self.instances.iter().zip(0..self.pairs(io.features)) {
            let kernel = Kernel {
                file,
                memory: &io.memory,
            };
            let mut told = kernel.set_mem_table(&memory_table(&ram)).map(drop);
            for (index, ring) in (2 * usize::from(pair)..).zip(0..2) {
                if let Some(call) = self.calls.call(index) {
                    told = told.and_then(|()| kernel.set_vring_call(ring, call));
                }
            }
            if let Err(error) = told {
                self.fail(&error, io);
            }
        }
    }

    fn quiesce(&mut self, io: &mut Io) {
        let pairs = self.pairs(io.features);
        self.running = false;
        self.working.fill(false);
        let memory = &io.memory;
        for (file, pair) in self.instances.iter().zip(0..pairs) {
            let queues = io.queues.iter_mut().skip(2 * usize::from(pair));
            for (queue, ring) in queues.take(2).zip(0..).filter(|(queue, _)| queue.is_ready()) {
                let stopped = set_tap(file, ring, None)
                    .and_then(|()| Kernel { file, memory }.get_vring_base(ring as usize));
                if let Err(error) = &stopped {
                    tracing::error!(%error, "vhost-net did not stop in order");
                }
                // Split rings have 16 bits here.
                queue.served_elsewhere(stopped.ok().map(|next| next as u16));
            }
        }
    }

    fn update(&mut self, update: Value, mut io: Option<&mut Io>) -> UpdateResult {
        let update: Update = update::parse(update)?;
        if update.limits.is_some() {
            let reason = "the kernel moves this card's frames, so they cannot be limited here";
            return Err(UpdateError::Refused(reason.to_owned()));
        }
        let answer = self.shared.update(update, io.as_deref_mut())?;
        if let Some(io) = io
            && let Err(error) = self.follow(io)
        {
            self.fail(&error, io);
        }
        Ok(answer)
    }

    fn reset(&mut self) {
        self.shared.set_driver(DriverState::new(self.config.mac));
    }

    fn save(&self) -> State {
        self.shared.save(&self.config)
    }
}

#[cfg(test)]
#[path = "vhost_tests.rs"]
mod tests;
