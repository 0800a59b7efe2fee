//! The guest's side, for tests and fuzz targets: memory, a driver's end of queues, and interrupts that can be waited for.

use crate::interrupt::{InterruptLine, MsiController, MsiVector, NotifyRegistrar};
use crate::memory::{Memory, Ram};
use crate::virtio::device::{Activation, Interrupt, VirtioDevice};
use crate::virtio::queue::{Queue, QueueState};
use crate::virtio::transport::Machine;
use crate::virtio::worker::{Backend, Virtio, no_hook};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// How long tests wait for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of guest memory; only what is touched is ever there.
pub const MEMORY_SIZE: u64 = 64 << 20;

/// Guest memory with an allocator that only goes up.
#[derive(Clone)]
pub struct Guest {
    memory: Memory,
    next: Arc<AtomicU64>,
}

impl Default for Guest {
    fn default() -> Self {
        Self::new()
    }
}

#[allow(clippy::expect_used, reason = "tests fail by panic")]
impl Guest {
    /// Makes empty memory.
    pub fn new() -> Self {
        let ram = Ram::from_ranges(&[(GuestAddress(0), MEMORY_SIZE as usize)]).expect("guest memory");
        Self {
            memory: Memory::new(ram),
            next: Arc::new(AtomicU64::new(0x1000)),
        }
    }

    /// The memory.
    pub fn memory(&self) -> Memory {
        self.memory.clone()
    }

    /// Takes `len` bytes at a multiple of 16.
    pub fn alloc(&self, len: u64) -> u64 {
        let address = self
            .next
            .fetch_add(len.next_multiple_of(16).max(16), Ordering::Relaxed);
        assert!(address + len <= MEMORY_SIZE, "guest memory is used up");
        address
    }

    /// Writes to memory.
    pub fn write(&self, address: u64, bytes: &[u8]) {
        self.memory
            .memory()
            .write_slice(bytes, GuestAddress(address))
            .expect("write to guest memory");
    }

    /// Reads from memory.
    pub fn read(&self, address: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory
            .memory()
            .read_slice(&mut bytes, GuestAddress(address))
            .expect("read from guest memory");
        bytes
    }

    fn read_u16(&self, address: u64) -> u16 {
        self.memory
            .memory()
            .load(GuestAddress(address), Ordering::Acquire)
            .expect("read from guest memory")
    }

    fn write_u16(&self, address: u64, value: u16) {
        self.memory
            .memory()
            .store(value, GuestAddress(address), Ordering::Release)
            .expect("write to guest memory");
    }
}

/// Counts interrupts and wakes who waits for them.
#[derive(Default)]
pub struct TestInterrupt {
    count: Mutex<u64>,
    changed: Condvar,
    config: AtomicU64,
    needs_reset: AtomicBool,
}

impl TestInterrupt {
    fn raise(&self) {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.changed.notify_all();
    }

    /// Interrupts so far.
    pub fn count(&self) -> u64 {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Configuration changes so far.
    pub fn config_changes(&self) -> u64 {
        self.config.load(Ordering::Acquire)
    }

    /// Whether the device has asked for a reset.
    pub fn asked_for_reset(&self) -> bool {
        self.needs_reset.load(Ordering::Acquire)
    }

    /// Waits until `done` holds, looking again at each interrupt and now and then. Returns whether it does.
    pub fn wait(&self, mut done: impl FnMut() -> bool) -> bool {
        let end = Instant::now() + PATIENCE;
        // Nothing is locked during `done`, so an interrupt may come in between; then the short wait is for nothing.
        while !done() {
            if Instant::now() > end {
                return false;
            }
            let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
            drop(self.changed.wait_timeout(count, Duration::from_millis(2)));
        }
        true
    }
}

impl Interrupt for TestInterrupt {
    fn queue(&self, _index: u16) {
        self.raise();
    }

    fn config(&self) {
        self.config.fetch_add(1, Ordering::AcqRel);
        self.raise();
    }

    fn needs_reset(&self) {
        self.needs_reset.store(true, Ordering::Release);
        self.raise();
    }
}

impl InterruptLine for TestInterrupt {
    fn trigger(&self) -> io::Result<()> {
        self.raise();
        Ok(())
    }
}

/// Part of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Bytes for the device.
    Read(Vec<u8>),
    /// Room for this many bytes from the device.
    Write(u32),
}

/// A request that the device has.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pending {
    head: u16,
    descriptors: Vec<u16>,
    writable: Vec<(u64, u32)>,
}

/// The driver's end of a queue.
pub struct DriverQueue {
    guest: Guest,
    /// Where the queue lies.
    pub state: QueueState,
    notify: EventFd,
    free: Vec<u16>,
    pending: Vec<Pending>,
    available: u16,
    seen: u16,
    indirect: bool,
}

#[allow(clippy::expect_used, clippy::indexing_slicing, reason = "tests fail by panic")]
impl DriverQueue {
    /// Lays out a queue in guest memory.
    pub fn new(guest: &Guest, size: u16, notify: EventFd) -> Self {
        let len = u64::from(size);
        let state = QueueState {
            size,
            ready: true,
            descriptor_table: guest.alloc(16 * len),
            available_ring: guest.alloc(6 + 2 * len),
            used_ring: guest.alloc(6 + 8 * len),
            next_available: 0,
            next_used: 0,
        };
        Self {
            guest: guest.clone(),
            state,
            notify,
            free: (0..size).rev().collect(),
            pending: Vec::new(),
            available: 0,
            seen: 0,
            indirect: false,
        }
    }

    /// Uses indirect descriptors from now on.
    pub fn set_indirect(&mut self, indirect: bool) {
        self.indirect = indirect;
    }

    fn descriptor(address: u64, len: u32, flags: u16, next: u16) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&address.to_le_bytes());
        bytes[8..12].copy_from_slice(&len.to_le_bytes());
        bytes[12..14].copy_from_slice(&flags.to_le_bytes());
        bytes[14..].copy_from_slice(&next.to_le_bytes());
        bytes
    }

    /// Adds a request without telling the device. Returns its head.
    pub fn add(&mut self, parts: &[Part]) -> u16 {
        let mut segments = Vec::new();
        for part in parts {
            segments.push(match part {
                Part::Read(bytes) => {
                    let address = self.guest.alloc(bytes.len() as u64);
                    self.guest.write(address, bytes);
                    (address, bytes.len() as u32, false)
                }
                Part::Write(len) => (self.guest.alloc(u64::from(*len)), *len, true),
            });
        }
        self.add_raw(&segments)
    }

    /// Adds a request of these addresses, lengths and directions (true: the device writes), whatever they are.
    pub fn add_raw(&mut self, segments: &[(u64, u32, bool)]) -> u16 {
        let writable = segments
            .iter()
            .filter(|segment| segment.2)
            .map(|segment| (segment.0, segment.1))
            .collect();
        let count = if self.indirect { 1 } else { segments.len() };
        let descriptors: Vec<u16> = (0..count)
            .map(|_| self.free.pop().expect("a free descriptor"))
            .collect();
        let numbers: Vec<u16> = match self.indirect {
            true => (0..segments.len() as u16).collect(),
            false => descriptors.clone(),
        };
        let mut table = self.state.descriptor_table;
        if self.indirect {
            let indirect = self.guest.alloc(16 * segments.len() as u64);
            let bytes = Self::descriptor(indirect, 16 * segments.len() as u32, 4, 0);
            self.guest.write(table + 16 * u64::from(descriptors[0]), &bytes);
            table = indirect;
        }
        for (index, (address, len, write)) in segments.iter().enumerate() {
            let next = numbers.get(index + 1).copied();
            let flags = u16::from(next.is_some()) | u16::from(*write) << 1;
            let bytes = Self::descriptor(*address, *len, flags, next.unwrap_or(0));
            self.guest.write(table + 16 * u64::from(numbers[index]), &bytes);
        }
        let head = descriptors[0];
        self.pending.push(Pending {
            head,
            descriptors,
            writable,
        });
        self.publish(head);
        head
    }

    /// Puts any number into the available ring.
    pub fn publish(&mut self, head: u16) {
        let slot = u64::from(self.available % self.state.size);
        self.guest
            .write(self.state.available_ring + 4 + 2 * slot, &head.to_le_bytes());
        self.available = self.available.wrapping_add(1);
        self.guest
            .write_u16(self.state.available_ring + 2, self.available);
    }

    /// Tells the device where to interrupt next (with EVENT_IDX): at the next used entry.
    pub fn want_interrupt(&self) {
        self.guest.write_u16(
            self.state.available_ring + 4 + 2 * u64::from(self.state.size),
            self.seen,
        );
    }

    /// Notifies the device.
    pub fn kick(&self) {
        self.notify.write(1).expect("notify the device");
    }

    /// Takes the next used request, if there is one: its head, the number of bytes, and what was written to it.
    pub fn poll(&mut self) -> Option<(u16, u32, Vec<u8>)> {
        if self.guest.read_u16(self.state.used_ring + 2) == self.seen {
            return None;
        }
        let slot = u64::from(self.seen % self.state.size);
        let entry = self.guest.read(self.state.used_ring + 4 + 8 * slot, 8);
        self.seen = self.seen.wrapping_add(1);
        let head = u16::from_le_bytes([entry[0], entry[1]]);
        let len = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        let index = self
            .pending
            .iter()
            .position(|pending| pending.head == head)
            .expect("a request we made");
        let pending = self.pending.remove(index);
        self.free.extend(pending.descriptors);
        let mut bytes = Vec::new();
        for (address, room) in pending.writable {
            bytes.extend(self.guest.read(address, room as usize));
        }
        Some((head, len, bytes))
    }

    /// Requests that the device has not given back.
    pub fn in_flight(&self) -> usize {
        self.pending.len()
    }
}

/// A device at work with its driver.
pub struct Harness {
    /// Guest memory.
    pub guest: Guest,
    /// The device.
    pub device: Box<dyn VirtioDevice>,
    /// The driver's end of its queues.
    pub queues: Vec<DriverQueue>,
    /// Its interrupts.
    pub interrupt: Arc<TestInterrupt>,
}

#[allow(clippy::expect_used, clippy::indexing_slicing, reason = "tests fail by panic")]
impl Harness {
    /// Activates a device as a driver that accepts these features.
    pub fn new<B: Backend>(backend: B, features: u64) -> Self {
        Self::with_device(Box::new(Virtio::new(backend)), features)
    }

    /// The same with a device that exists already.
    pub fn with_device(device: Box<dyn VirtioDevice>, features: u64) -> Self {
        let mut harness = Self {
            guest: Guest::new(),
            device,
            queues: Vec::new(),
            interrupt: Arc::default(),
        };
        harness.activate(features);
        harness
    }

    /// Activates the device with fresh queues, as after a reset.
    pub fn activate(&mut self, features: u64) {
        self.interrupt = Arc::default();
        self.queues.clear();
        let event_idx = features & 1 << 29 != 0;
        let mut queues = Vec::new();
        for (&size, index) in self.device.queue_sizes().iter().zip(0..) {
            let notify = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).expect("an event descriptor");
            let clone = notify.try_clone().expect("an event descriptor");
            let driver = DriverQueue::new(&self.guest, size, clone);
            let interrupt = self.interrupt.clone();
            let memory = self.guest.memory();
            queues.push(
                Queue::new(index, size, &driver.state, event_idx, memory, interrupt, notify)
                    .expect("a queue"),
            );
            self.queues.push(driver);
        }
        let activation = Activation {
            memory: self.guest.memory(),
            queues,
            interrupt: self.interrupt.clone(),
            features,
            thread_hook: no_hook(),
        };
        self.device.activate(activation).expect("activate the device");
    }

    /// Sends one request and waits for its end: the number of bytes, and what was written to it.
    pub fn request(&mut self, queue: usize, parts: &[Part]) -> (u32, Vec<u8>) {
        let head = self.queues[queue].add(parts);
        self.queues[queue].kick();
        let (used, len, bytes) = self.next_used(queue).expect("the device answers in time");
        assert_eq!(used, head);
        (len, bytes)
    }

    /// Waits for the next used request.
    pub fn next_used(&mut self, queue: usize) -> Option<(u16, u32, Vec<u8>)> {
        let mut used = None;
        let driver = &mut self.queues[queue];
        self.interrupt.wait(|| {
            used = driver.poll();
            used.is_some()
        });
        used
    }
}

/// A machine without KVM: no notification is registered, interrupts are counted.
pub fn machine(guest: &Guest) -> Machine {
    Machine {
        memory: guest.memory(),
        notify: Arc::new(Notifications::default()),
        thread_hook: no_hook(),
    }
}

/// Remembers where notifications are registered.
#[derive(Default)]
pub struct Notifications(Mutex<Vec<(u64, Option<u32>)>>);

impl Notifications {
    /// What is registered at present.
    pub fn registered(&self) -> Vec<(u64, Option<u32>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl NotifyRegistrar for Notifications {
    fn register(&self, address: u64, datamatch: Option<u32>, _fd: &EventFd) -> io::Result<()> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((address, datamatch));
        Ok(())
    }

    fn unregister(&self, address: u64, datamatch: Option<u32>, _fd: &EventFd) -> io::Result<()> {
        let mut registered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        registered.retain(|entry| *entry != (address, datamatch));
        Ok(())
    }
}

/// Hands out vectors that remember their messages and count their interrupts.
#[derive(Default)]
pub struct TestMsi {
    /// The vectors in order of allocation.
    pub vectors: Mutex<Vec<Arc<TestVector>>>,
}

impl TestMsi {
    /// One of the vectors.
    pub fn vector(&self, index: usize) -> Option<Arc<TestVector>> {
        self.vectors
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(index)
            .cloned()
    }
}

impl MsiController for TestMsi {
    fn allocate(&self) -> io::Result<Arc<dyn MsiVector>> {
        let vector = Arc::<TestVector>::default();
        self.vectors
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(vector.clone());
        Ok(vector)
    }
}

/// A vector.
#[derive(Default)]
pub struct TestVector {
    message: Mutex<Option<(u64, u32, bool)>>,
    interrupt: TestInterrupt,
}

impl TestVector {
    /// Address, data and mask as they were set last.
    pub fn message(&self) -> Option<(u64, u32, bool)> {
        *self.message.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The interrupts.
    pub fn interrupt(&self) -> &TestInterrupt {
        &self.interrupt
    }
}

impl MsiVector for TestVector {
    fn set(&self, address: u64, data: u32, masked: bool) -> io::Result<()> {
        *self.message.lock().unwrap_or_else(PoisonError::into_inner) = Some((address, data, masked));
        Ok(())
    }

    fn trigger(&self) -> io::Result<()> {
        self.interrupt.raise();
        Ok(())
    }

    fn eventfd(&self) -> Option<&EventFd> {
        None
    }
}
