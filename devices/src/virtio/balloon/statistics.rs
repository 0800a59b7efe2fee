//! What the guest says of its memory (virtio 1.3 §5.5.6.3). The driver keeps one buffer in the queue: the device gives
//! it back when it wants to know, and the driver fills it and puts it there again.

use crate::memory::{Memory, Ram};
use crate::metrics::{Counter, Gauge};
use crate::virtio::buffer::Buffer;
use crate::virtio::queue::Queue;
use serde::Serialize;
use vm_memory::GuestAddressSpace;

/// Bytes of an entry: a tag of 16 bits and a value of 64.
const ENTRY: usize = 10;
/// Entries looked at; Linux has 16.
const MAX_ENTRIES: usize = 64;

/// The guest's numbers as it told them last. They are the guest's claims.
#[derive(Debug, Default, Serialize)]
pub struct GuestStatistics {
    /// How often it has told them.
    pub updates: Counter,
    /// Bytes that were swapped in, ever.
    pub swap_in_bytes: Gauge,
    /// Bytes that were swapped out, ever.
    pub swap_out_bytes: Gauge,
    /// Page faults that needed a disk, ever.
    pub major_faults: Gauge,
    /// Page faults that did not, ever.
    pub minor_faults: Gauge,
    /// Bytes that nobody uses.
    pub free_bytes: Gauge,
    /// Bytes altogether.
    pub total_bytes: Gauge,
    /// Bytes that programs could get without swapping.
    pub available_bytes: Gauge,
    /// Bytes of files that could be dropped.
    pub disk_cache_bytes: Gauge,
    /// Huge pages that were given to programs, ever.
    pub hugetlb_allocations: Gauge,
    /// Huge pages that could not be given, ever.
    pub hugetlb_failures: Gauge,
    /// Times that the guest ended a program for want of memory (Linux 6.12).
    pub oom_kills: Gauge,
    /// Times that a program waited for memory to be freed (Linux 6.12).
    pub allocation_stalls: Gauge,
}

impl GuestStatistics {
    fn gauge(&self, tag: u16) -> Option<&Gauge> {
        Some(match tag {
            0 => &self.swap_in_bytes,
            1 => &self.swap_out_bytes,
            2 => &self.major_faults,
            3 => &self.minor_faults,
            4 => &self.free_bytes,
            5 => &self.total_bytes,
            6 => &self.available_bytes,
            7 => &self.disk_cache_bytes,
            8 => &self.hugetlb_allocations,
            9 => &self.hugetlb_failures,
            10 => &self.oom_kills,
            11 => &self.allocation_stalls,
            _ => return None,
        })
    }

    fn read(&self, buffer: &mut Buffer, ram: &Ram) {
        let count = (buffer.len() / ENTRY as u64).min(MAX_ENTRIES as u64) as usize;
        let mut bytes = vec![0; count * ENTRY];
        if count == 0 || buffer.read(ram, &mut bytes).is_err() {
            return;
        }
        for entry in bytes.as_chunks::<ENTRY>().0 {
            let [low, high, value @ ..] = *entry;
            if let Some(gauge) = self.gauge(u16::from_le_bytes([low, high])) {
                gauge.set(u64::from_le_bytes(value));
            }
        }
        self.updates.increment();
    }
}

/// Buffers taken before other queues get a turn.
const BUDGET: usize = 8;

/// The driver's buffer.
#[derive(Debug, Default)]
pub(super) struct Statistics {
    held: Option<u16>,
}

impl Statistics {
    pub(super) fn held(&self) -> Option<u16> {
        self.held
    }

    pub(super) fn hold(&mut self, head: Option<u16>) {
        self.held = head;
    }

    /// Reads what the driver put into the queue, and keeps the buffer.
    pub(super) fn take(&mut self, queue: &mut Queue, memory: &Memory, statistics: &GuestStatistics) {
        let ram = memory.memory();
        // There is one buffer; whoever brings more gets those before back.
        for _ in 0..BUDGET {
            match queue.pop() {
                Some(mut chain) => {
                    statistics.read(&mut chain.readable, &ram);
                    if let Some(head) = self.held.replace(chain.head) {
                        queue.add_used(head, 0);
                    }
                }
                None if queue.enable_notification() => {}
                None => return queue.signal(),
            }
        }
        queue.wake_again();
        queue.signal();
    }

    /// Asks for new numbers.
    pub(super) fn ask(&mut self, queue: &mut Queue) {
        if let Some(head) = self.held.take() {
            queue.add_used(head, 0);
            queue.signal();
        }
    }
}
