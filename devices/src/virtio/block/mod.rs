//! The block device (virtio 1.3 §5.2) on a raw file or host block device.
//!
//! Requests are parsed and checked in [`request`], and carried out by io_uring ([`uring`]) or, where that is missing or
//! forbidden, by plain system calls on the device's thread. A flush is a true `fdatasync`; a driver that did not accept
//! the flush feature gets durable writes instead (§5.2.5.2).

mod config;
pub mod disk;
mod in_flight;
pub mod request;
pub mod uring;

use crate::metrics::{Counter, Metrics};
use crate::virtio::config_space::ConfigSpace;
use crate::virtio::device::DeviceType;
use crate::virtio::queue::Queue;
use crate::virtio::rate_limiter::RateLimiter;
use crate::virtio::worker::{Backend, Io};
pub use config::{BlockError, Config, Engine, QUEUES_MAX, State};

use config::{QUEUE_SIZE, config_space};
use disk::{Disk, Erase, cannot_erase};
use in_flight::{InFlight, Slots, Work};
use request::{Operation, Request, SERIAL_LEN, Status};
use serde::Serialize;
use std::fs::File;
use std::io;
use std::sync::Arc;
use uring::Uring;
use virtio_bindings::virtio_blk as spec;
use vm_memory::GuestAddressSpace;
use vmm_sys_util::epoll::EventSet;

/// Requests taken from one queue before other events get a turn.
const BUDGET: usize = 128;
/// Token of the ring's descriptor.
const TOKEN_COMPLETED: u32 = 0;
/// Token of the limiter's descriptor.
const TOKEN_LIMITER: u32 = 1;

/// The device's counters.
#[derive(Debug, Default, Serialize)]
pub struct BlockMetrics {
    /// Read requests completed.
    pub reads: Counter,
    /// Bytes read.
    pub read_bytes: Counter,
    /// Write requests completed.
    pub writes: Counter,
    /// Bytes written.
    pub written_bytes: Counter,
    /// Flushes completed.
    pub flushes: Counter,
    /// Discards and write-zeroes completed.
    pub erasures: Counter,
    /// Requests that ended with an error.
    pub failures: Counter,
}

/// The block device.
pub struct Block {
    config: Config,
    disk: Disk,
    uring: Option<Uring>,
    slots: Slots,
    space: Arc<ConfigSpace>,
    metrics: Arc<BlockMetrics>,
    /// Whether the driver did without flushes, so that each write has to be durable.
    write_through: bool,
    limiter: Option<RateLimiter>,
    /// Queues that have requests for which there was no slot, or that have used up their limits.
    stalled: u32,
}

impl Block {
    /// Makes a block device of an open raw file or host block device, open for writing unless `read_only`.
    pub fn new(config: Config, disk: File) -> Result<Self, BlockError> {
        if config.serial.len() > SERIAL_LEN {
            return Err(BlockError::SerialTooLong(config.serial));
        }
        if config.queues == 0 || config.queues > QUEUES_MAX {
            return Err(BlockError::Queues(config.queues));
        }
        let disk = Disk::new(disk).map_err(BlockError::Size)?;
        let uring = match config.engine {
            Engine::Sync => None,
            Engine::Uring => Some(Uring::new().map_err(BlockError::Uring)?),
            Engine::Auto => Uring::new()
                .inspect_err(|error| tracing::debug!(%error, "no io_uring, disk uses plain system calls"))
                .ok(),
        };
        Ok(Self {
            space: Arc::new(ConfigSpace::new(config_space(&config, disk.size()))),
            slots: Slots::new(uring::DEPTH),
            limiter: RateLimiter::new(config.limits).map_err(BlockError::Timer)?,
            config,
            disk,
            uring,
            metrics: Arc::default(),
            write_through: false,
            stalled: 0,
        })
    }

    /// Makes the device again as it was saved, on the same disk.
    pub fn restore(state: State, disk: File) -> Result<Self, BlockError> {
        let block = Self::new(state.config, disk)?;
        match block.disk.size() {
            actual if actual != state.size_bytes => Err(BlockError::SizeChanged {
                saved: state.size_bytes,
                actual,
            }),
            _ => Ok(block),
        }
    }

    /// Starts one request. What is done at once is completed at once.
    fn begin(&mut self, queue: usize, head: u16, request: Request, io: &mut Io) {
        let Request {
            operation,
            data,
            status,
        } = request;
        let ram = io.memory.memory().into_inner();
        let done = |work| InFlight {
            queue,
            head,
            status,
            ram: ram.clone(),
            work,
        };
        let operation = match operation {
            Ok(operation) => operation,
            Err(status) => return self.complete(done(Work::Other), Err(status), io),
        };
        match operation {
            Operation::GetId => {
                let mut data = data;
                let len = data.len().min(SERIAL_LEN as u64) as usize;
                let mut serial = [0; SERIAL_LEN];
                serial
                    .iter_mut()
                    .zip(self.config.serial.bytes())
                    .for_each(|(to, from)| *to = from);
                let result = data.write(&ram, serial.get(..len).unwrap_or_default());
                let result = result.map(|()| len as u32).map_err(|_| Status::IoError);
                self.complete(done(Work::Other), result, io);
            }
            Operation::Read { offset } | Operation::Write { offset } => {
                let write = matches!(operation, Operation::Write { .. });
                match data.iovecs(&ram, data.len()) {
                    Ok(iovecs) => {
                        let work = Work::Transfer {
                            write,
                            iovecs,
                            first: 0,
                            offset,
                            done: 0,
                            len: data.len(),
                        };
                        self.submit(done(work), io);
                    }
                    Err(_) => self.complete(done(Work::Other), Err(Status::IoError), io),
                }
            }
            Operation::Flush => self.submit(done(Work::Flush), io),
            Operation::Discard(bytes) => self.submit(done(Work::Erase(Erase::Discard, bytes)), io),
            Operation::WriteZeroes { bytes, unmap } => {
                let erase = if unmap { Erase::ZeroUnmap } else { Erase::Zero };
                self.submit(done(Work::Erase(erase, bytes)), io);
            }
        }
    }

    /// Gives work to the ring, or does it here.
    fn submit(&mut self, request: InFlight, io: &mut Io) {
        // Nothing to transfer: the ring would find that out, too, but the vectors may be none.
        if matches!(&request.work, Work::Transfer { len: 0, .. }) {
            return self.complete(request, Ok(0), io);
        }
        let durable = self.write_through;
        let Some(uring) = self.uring.as_mut() else {
            return self.run(request, io);
        };
        let token = match self.slots.insert(request) {
            Ok(token) => token,
            // The caller has made sure that there is a slot.
            Err(request) => return self.complete(request, Err(Status::IoError), io),
        };
        let Some(request) = self.slots.get(token) else {
            return;
        };
        let pushed = match &request.work {
            Work::Transfer {
                write,
                iovecs,
                first,
                offset,
                done,
                ..
            } => {
                let iovecs = iovecs.get(*first..).unwrap_or_default();
                // SAFETY: the slot keeps vectors and memory map until the request has completed.
                unsafe { uring.push_transfer(token, &self.disk, *write, iovecs, offset + done, durable) }
            }
            Work::Flush => uring.push_flush(token, &self.disk),
            Work::Erase(erase, bytes) => uring.push_erase(token, &self.disk, *erase, bytes),
            Work::Other => Ok(()),
        };
        if pushed.is_err()
            && let Some(request) = self.slots.remove(token)
        {
            self.complete(request, Err(Status::IoError), io);
        }
    }

    /// Does the work on this thread.
    fn run(&mut self, mut request: InFlight, io: &mut Io) {
        loop {
            let result = match &request.work {
                Work::Transfer {
                    write,
                    iovecs,
                    first,
                    offset,
                    done,
                    ..
                } => {
                    let iovecs = iovecs.get(*first..).unwrap_or_default();
                    // SAFETY: the request holds the memory map that the vectors point into.
                    unsafe {
                        self.disk
                            .transfer(*write, iovecs, offset + done, self.write_through)
                    }
                }
                Work::Flush => self.disk.flush().map(|()| 0),
                Work::Erase(erase, bytes) => self.disk.erase(*erase, bytes).map(|()| 0),
                Work::Other => Ok(0),
            };
            match self.advance(&mut request, result) {
                Some(result) => return self.complete(request, result, io),
                None => continue,
            }
        }
    }

    /// Takes the result of a system call into account. Returns how the request ended, or nothing if it must go on.
    fn advance(&self, request: &mut InFlight, result: io::Result<usize>) -> Option<Result<u32, Status>> {
        match result {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
                ) =>
            {
                None
            }
            Err(error) => {
                if let Work::Erase(erase, bytes) = &request.work
                    && cannot_erase(&error)
                {
                    let result = self.disk.erase_by_hand(*erase, bytes);
                    return Some(result.map(|()| 0).map_err(|_| Status::IoError));
                }
                tracing::debug!(%error, "disk request failed");
                Some(Err(Status::IoError))
            }
            Ok(count) => request.work.advance(count),
        }
    }

    /// Tells the driver how a request ended; `Ok` holds the number of data bytes written to guest memory.
    fn complete(&mut self, request: InFlight, result: Result<u32, Status>, io: &mut Io) {
        let InFlight {
            queue,
            head,
            mut status,
            ram,
            work,
        } = request;
        let metrics = &self.metrics;
        let (code, written) = match result {
            Ok(written) => {
                match &work {
                    Work::Transfer {
                        write: false, len, ..
                    } => {
                        metrics.reads.increment();
                        metrics.read_bytes.add(*len);
                    }
                    Work::Transfer { len, .. } => {
                        metrics.writes.increment();
                        metrics.written_bytes.add(*len);
                    }
                    Work::Flush => metrics.flushes.increment(),
                    Work::Erase(..) => metrics.erasures.increment(),
                    Work::Other => {}
                }
                (Status::Ok, written)
            }
            Err(status) => {
                metrics.failures.increment();
                (status, 0)
            }
        };
        // A status outside of guest memory is the driver's own loss; the chain goes back all the same.
        let len = match status.write(&ram, &[code as u8]) {
            Ok(()) => written.saturating_add(1),
            Err(_) => 0,
        };
        if let Some(queue) = io.queues.get_mut(queue) {
            queue.add_used(head, len);
        }
    }

    /// Completes what the ring has done.
    fn reap(&mut self, io: &mut Io) {
        let Some(uring) = self.uring.as_mut() else { return };
        for (token, result) in uring.completions() {
            let Some(mut request) = self.slots.remove(token) else {
                continue;
            };
            match self.advance(&mut request, result) {
                Some(result) => self.complete(request, result, io),
                None => self.submit(request, io),
            }
        }
        io.queues.iter_mut().for_each(Queue::signal);
    }

    /// Gives the kernel what was queued.
    fn flush_submissions(&mut self, io: &mut Io) {
        let Some(uring) = self.uring.as_mut() else { return };
        match uring.submit() {
            Ok(true) => {}
            // The kernel is short of something for the moment; come back by way of the event loop.
            Ok(false) => io.queues.iter().take(1).for_each(|queue| queue.wake_again()),
            Err(error) => {
                tracing::error!(%error, "disk cannot submit requests");
                io.interrupt.needs_reset();
            }
        }
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

    fn start(&mut self, io: &mut Io) -> io::Result<()> {
        self.write_through = !io.has_feature(spec::VIRTIO_BLK_F_FLUSH);
        self.stalled = 0;
        if let Some(limiter) = &self.limiter {
            io.add(limiter.fd(), TOKEN_LIMITER, EventSet::IN)?;
        }
        match &self.uring {
            Some(uring) => io.add(uring.completed_fd(), TOKEN_COMPLETED, EventSet::IN),
            None => Ok(()),
        }
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
                let limited = self.limiter.as_mut().is_some_and(|limiter| !limiter.ready());
                if limited || self.uring.is_some() && self.slots.is_full() {
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
                        if let Some(limiter) = &mut self.limiter {
                            limiter.spend(request.data.len());
                        }
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
        if let (TOKEN_LIMITER, Some(limiter)) = (token, &mut self.limiter) {
            limiter.elapsed();
        }
        self.reap(io);
        self.flush_submissions(io);
        let stalled = std::mem::take(&mut self.stalled);
        for index in 0..io.queues.len() {
            if stalled & 1 << index != 0 {
                self.queue_ready(index, io);
            }
        }
    }

    fn quiesce(&mut self, io: &mut Io) {
        while !self.slots.is_empty() {
            if let Some(Err(error)) = self.uring.as_mut().map(Uring::wait) {
                // Requests whose end is unknown keep their memory map alive in the slots, so this is safe, but lost.
                tracing::error!(%error, "disk cannot wait for its requests");
                return;
            }
            self.reap(io);
        }
    }

    fn save(&self) -> State {
        State {
            config: self.config.clone(),
            size_bytes: self.disk.size(),
        }
    }
}

#[cfg(test)]
#[path = "block_tests.rs"]
mod tests;
