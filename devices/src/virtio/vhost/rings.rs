//! What all back ends have to be told, in the kernel or in another process: guest memory, and each ring's place.

use super::calls::Calls;
use crate::memory::Ram;
use crate::virtio::queue::{Queue, QueueState};
use std::os::fd::AsRawFd;
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vm_memory::{Address, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

/// How a back end names addresses of rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::virtio) enum Addressing {
    /// As the guest does; what talks to the back end translates them.
    Guest,
    /// As this process does.
    Host,
}

/// The table of guest memory. Regions without a file have the handle -1, which only the kernel takes.
pub(in crate::virtio) fn memory_table(ram: &Ram) -> Vec<VhostUserMemoryRegionInfo> {
    ram.iter()
        .map(|region| {
            let file = region.file_offset();
            VhostUserMemoryRegionInfo {
                guest_phys_addr: region.start_addr().raw_value(),
                memory_size: region.len(),
                userspace_addr: region.as_ptr() as u64,
                mmap_offset: file.map_or(0, |file| file.start()),
                mmap_handle: file.map_or(-1, |file| file.file().as_raw_fd()),
            }
        })
        .collect()
}

/// The address of one of a queue's parts. It has to lie in one piece: back ends run on from its start in this process'
/// memory, where something else follows a region.
fn part(ram: &Ram, addressing: Addressing, guest: u64, len: usize) -> vhost::Result<u64> {
    let slice = ram.get_slice(GuestAddress(guest), len);
    let slice = slice.ok().filter(|slice| slice.len() == len);
    let slice = slice.ok_or(vhost::Error::InvalidGuestMemory)?;
    Ok(match addressing {
        Addressing::Guest => guest,
        Addressing::Host => slice.ptr_guard().as_ptr() as u64,
    })
}

/// Tells a back end all about one queue, which it knows as ring `index`. The rings were checked when the queue was made.
pub(in crate::virtio) fn set_up(
    back_end: &impl VhostBackend,
    index: usize,
    queue: &Queue,
    calls: &Calls,
    ram: &Ram,
    addressing: Addressing,
) -> vhost::Result<()> {
    let QueueState {
        size,
        descriptor_table,
        available_ring,
        used_ring,
        next_available,
        ..
    } = queue.state();
    let own = usize::from(queue.index());
    let entries = usize::from(size);
    // Lengths as in virtio 1.3 §2.7.
    let descriptors = part(ram, addressing, descriptor_table, 16 * entries)?;
    let available = part(ram, addressing, available_ring, 6 + 2 * entries)?;
    let used = part(ram, addressing, used_ring, 6 + 8 * entries)?;
    back_end.set_vring_num(index, size)?;
    back_end.set_vring_base(index, next_available)?;
    let config = VringConfigData {
        queue_max_size: size,
        queue_size: size,
        desc_table_addr: descriptors,
        avail_ring_addr: available,
        used_ring_addr: used,
        ..Default::default()
    };
    back_end.set_vring_addr(index, &config)?;
    if let (Some(call), Some(error)) = (calls.call(own), calls.error(own)) {
        back_end.set_vring_call(index, call)?;
        back_end.set_vring_err(index, error)?;
    }
    back_end.set_vring_kick(index, queue.notify())
}
