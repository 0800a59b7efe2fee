//! The block device (virtio 1.3 §5.2) on a raw file, a host block device or an image.
//!
//! Requests are parsed and checked in [`request`]; [`disk`] says which bytes of which file they are about, and
//! [`execute`] has them moved by an [`engine`]: io_uring or, where that is missing or forbidden, a few threads. Each queue
//! of a raw disk has a worker of its own; an image has one for all, because of its tables. A flush is a true `fdatasync`; a driver that does without flushes, or turns the write cache off, gets
//! durable writes instead (§5.2.5.2).

mod config;
mod disk;
mod engine;
mod execute;
mod file;
mod in_flight;
mod metrics;
pub mod qcow2;
pub mod request;
mod threads;
mod uring;

use crate::metrics::Metrics;
use crate::virtio::config_space::ConfigSpace;
use crate::virtio::device::DeviceType;
use crate::virtio::rate_limiter::RateLimiter;
use crate::virtio::update::{UpdateError, UpdateResult, invalid, parse};
use crate::virtio::worker::{Backend, Io, ThreadHook};
pub use config::{BlockError, Config, EngineKind, QUEUES_MAX, State, Update};
pub use disk::{DiskFile, Format};
pub use file::HostFile;
pub use metrics::BlockMetrics;
pub use request::SERIAL_LEN;

use config::{CAPACITY, QUEUE_SIZE, WRITEBACK, config_space};
use disk::Disk;
use engine::{DEPTH, Engine};
use in_flight::Slots;
use request::{Request, SECTOR};
use std::io;
use std::sync::Arc;
use virtio_bindings::virtio_blk as spec;
use vm_memory::GuestAddressSpace;
use vmm_sys_util::epoll::EventSet;

/// Requests taken from one queue before other events get a turn.
const BUDGET: usize = 128;
/// Token of the engine's descriptor.
const TOKEN_COMPLETED: u32 = 0;
/// Token of the limiter's descriptor.
const TOKEN_LIMITER: u32 = 1;

/// The block device, or the part of it that serves one queue.
pub struct Block {
    config: Config,
    disk: Disk,
    engine: Engine,
    slots: Slots,
    space: Arc<ConfigSpace>,
    metrics: Arc<BlockMetrics>,
    /// How the driver turns the write cache on and off.
    cache: Cache,
    limiter: RateLimiter,
    /// The driver has reset the device and waits for no request.
    abandoned: bool,
    /// Queues that have requests for which there was no slot, or that have used up their limits.
    stalled: u32,
    siblings: Vec<Block>,
}

/// Who decides whether writes may stay in the host's cache (§5.2.5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cache {
    /// The driver has not said anything yet.
    Unknown,
    /// It flushes when it has to.
    WriteBack,
    /// It never flushes.
    WriteThrough,
    /// A field of the configuration space.
    Field,
}

impl Block {
    /// Makes a block device of open files: the disk's own, open for writing unless `read_only`, and, one below the other,
    /// those that it stands on.
    pub fn new(config: Config, files: Vec<DiskFile>) -> Result<Self, BlockError> {
        if config.serial.len() > SERIAL_LEN {
            return Err(BlockError::SerialTooLong(config.serial));
        }
        if config.queues == 0 || config.queues > QUEUES_MAX {
            return Err(BlockError::Queues(config.queues));
        }
        let disk = Disk::new(files, !config.read_only)?;
        let mut block = Self {
            space: Arc::new(config_space(&config, &disk)),
            slots: Slots::new(DEPTH),
            limiter: RateLimiter::adjustable(config.limits).map_err(BlockError::Timer)?,
            engine: Engine::new(config.engine)?,
            config,
            disk,
            metrics: Arc::default(),
            cache: Cache::Unknown,
            abandoned: false,
            stalled: 0,
            siblings: Vec::new(),
        };
        for _ in 1..block.config.queues {
            block.siblings.extend(block.sibling()?);
        }
        Ok(block)
    }

    /// Makes the device again as it was saved, on the same disk.
    pub fn restore(state: State, files: Vec<DiskFile>) -> Result<Self, BlockError> {
        let block = Self::new(state.config, files)?;
        block.space.update(WRITEBACK, &[u8::from(state.write_back)]);
        match block.disk.size() {
            actual if actual != state.size_bytes => Err(BlockError::SizeChanged {
                saved: state.size_bytes,
                actual,
            }),
            _ => Ok(block),
        }
    }

    /// The part for another queue; there is none for an image.
    fn sibling(&self) -> Result<Option<Self>, BlockError> {
        let Some(disk) = self.disk.share() else {
            return Ok(None);
        };
        Ok(Some(Self {
            space: self.space.clone(),
            slots: Slots::new(DEPTH),
            limiter: self.limiter.share().map_err(BlockError::Timer)?,
            engine: self.engine.sibling(self.config.engine)?,
            config: self.config.clone(),
            disk,
            metrics: self.metrics.clone(),
            cache: Cache::Unknown,
            abandoned: false,
            stalled: 0,
            siblings: Vec::new(),
        }))
    }

    /// Whether each write has to be durable.
    fn write_through(&self) -> bool {
        match self.cache {
            Cache::Unknown | Cache::WriteBack => false,
            Cache::WriteThrough => true,
            Cache::Field => !self.write_back_field(),
        }
    }

    fn write_back_field(&self) -> bool {
        let mut field = [0];
        self.space.read(WRITEBACK as u64, &mut field);
        field != [0]
    }

    fn grow(&mut self, size: u64, io: Option<&mut Io>) -> Result<(), UpdateError> {
        let old = self.disk.size();
        if self.config.read_only {
            return Err(UpdateError::Refused("the disk is read-only".to_owned()));
        }
        if size < old {
            let problem = format!("the disk has {old} bytes and cannot become smaller while it is in use");
            return Err(UpdateError::Refused(problem));
        }
        let align = self.disk.align();
        if !size.is_multiple_of(align) {
            return Err(UpdateError::Invalid(format!(
                "`size_bytes` is {size}: use a multiple of {align}"
            )));
        }
        if size == old {
            return Ok(());
        }
        let failed = |source| UpdateError::Failed {
            what: "make the disk larger",
            source,
        };
        self.disk.grow(size).map_err(failed)?;
        self.space.update(CAPACITY, &(size / SECTOR).to_le_bytes());
        if let Some(io) = io {
            io.interrupt.config();
        }
        Ok(())
    }
}

impl Backend for Block {
    type State = State;

    fn device_type(&self) -> DeviceType {
        DeviceType::Block
    }

    fn features(&self) -> u64 {
        config::features(&self.config)
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE; usize::from(self.config.queues)]
    }

    fn config(&self) -> Arc<ConfigSpace> {
        self.space.clone()
    }

    fn metrics(&self) -> Arc<dyn Metrics> {
        self.metrics.clone()
    }

    fn take_siblings(&mut self) -> Vec<Self> {
        std::mem::take(&mut self.siblings)
    }

    fn group(&self, queue: u16, _features: u64) -> usize {
        if self.disk.is_raw() { usize::from(queue) } else { 0 }
    }

    fn prepare(&mut self, hook: &ThreadHook) -> io::Result<()> {
        self.engine.prepare(hook)
    }

    fn start(&mut self, io: &mut Io) -> io::Result<()> {
        let flush = io.has_feature(spec::VIRTIO_BLK_F_FLUSH);
        let field = io.has_feature(spec::VIRTIO_BLK_F_CONFIG_WCE);
        // Not after a pause: the driver may have changed the field since.
        if self.cache == Cache::Unknown && field && !flush {
            self.space.update(WRITEBACK, &[0]);
        }
        self.cache = match (field, flush) {
            (true, _) => Cache::Field,
            (false, true) => Cache::WriteBack,
            (false, false) => Cache::WriteThrough,
        };
        self.stalled = 0;
        io.add(self.limiter.fd(), TOKEN_LIMITER, EventSet::IN)?;
        io.add(self.engine.completed_fd(), TOKEN_COMPLETED, EventSet::IN)
    }

    fn queue_ready(&mut self, index: usize, io: &mut Io) {
        let ram = io.memory.memory().into_inner();
        self.stalled &= !(1 << index);
        let mut taken = 0;
        loop {
            if let Some(queue) = io.queues.get_mut(index) {
                queue.disable_notification();
            }
            while taken < BUDGET {
                let limited = !self.limiter.ready();
                if limited || self.slots.is_full() {
                    if limited {
                        self.metrics.throttled.increment();
                    }
                    self.stalled |= 1 << index;
                    break;
                }
                let Some(queue) = io.queues.get_mut(index) else {
                    return;
                };
                let Some(chain) = queue.pop() else { break };
                taken += 1;
                let head = chain.head;
                match Request::parse(chain, &ram, self.disk.size(), self.config.read_only) {
                    Some(request) => {
                        self.limiter.spend(request.data.len());
                        self.begin(index, head, request, io);
                    }
                    None => queue.fail("block request without room for a status"),
                }
            }
            self.flush_submissions(io);
            let Some(queue) = io.queues.get_mut(index) else {
                return;
            };
            if self.stalled & 1 << index != 0 {
                break;
            }
            if taken >= BUDGET {
                queue.wake_again();
                break;
            }
            if !queue.enable_notification() {
                break;
            }
        }
        if let Some(queue) = io.queues.get_mut(index) {
            queue.signal();
        }
    }

    fn event(&mut self, token: u32, _events: EventSet, io: &mut Io) {
        if token == TOKEN_LIMITER {
            self.limiter.elapsed();
        }
        self.reap(io);
        self.flush_submissions(io);
        if io.is_stopping() {
            return;
        }
        let stalled = std::mem::take(&mut self.stalled);
        for index in 0..io.queues.len() {
            if stalled & 1 << index != 0 {
                self.queue_ready(index, io);
            }
        }
    }

    fn is_busy(&self) -> bool {
        !self.slots.is_empty()
    }

    fn abandon(&mut self, io: &mut Io) {
        self.abandoned = true;
        self.engine.cancel(self.slots.tokens());
        self.reap(io);
        self.flush_submissions(io);
    }

    fn quiesce(&mut self, _io: &mut Io) {
        // Not asked for by the driver, but whoever copies the image next shall find it in order.
        if self.disk.needs_write_back()
            && let Err(error) = self.disk.write_back()
        {
            tracing::warn!(%error, "disk image's tables cannot be written");
        }
    }

    fn update(&mut self, update: serde_json::Value, io: Option<&mut Io>) -> UpdateResult {
        let update: Update = parse(update)?;
        if let Some(limits) = update.limits {
            limits.check().map_err(invalid("limits"))?;
        }
        if let Some(size) = update.size_bytes {
            self.grow(size, io)?;
        }
        if let Some(limits) = update.limits {
            self.limiter.set(limits);
            self.config.limits = limits;
        }
        Ok(serde_json::json!({ "size_bytes": self.disk.size(), "limits": self.config.limits }))
    }

    fn reset(&mut self) {
        self.cache = Cache::Unknown;
        self.abandoned = false;
        self.space.update(WRITEBACK, &[1]);
    }

    fn save(&self) -> State {
        State {
            config: self.config.clone(),
            size_bytes: self.disk.size(),
            write_back: self.write_back_field(),
        }
    }
}

#[cfg(test)]
#[path = "block_tests.rs"]
mod tests;

#[cfg(test)]
mod change_tests;

#[cfg(test)]
mod fault_tests;

#[cfg(test)]
mod hang_tests;
