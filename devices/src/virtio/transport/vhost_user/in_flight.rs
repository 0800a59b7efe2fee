//! The memory in which a front end keeps the record of what its back ends have taken and not answered, so that the next one
//! can take over from one that died.

use crate::virtio::queue::Record;
use std::fs::File;
use std::io;
use std::os::fd::FromRawFd;
use std::sync::Arc;
use vhost::vhost_user::message::VhostUserInflight;
use vm_memory::{FileOffset, MmapRegion};

/// The record of all rings.
pub(super) struct InFlight {
    memory: Arc<MmapRegion>,
    rings: u16,
    /// Entries of the largest ring.
    entries: u16,
}

fn refused(problem: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, problem)
}

/// Makes memory for an empty record of so many rings with so many entries.
pub(super) fn make(asked: &VhostUserInflight) -> io::Result<(VhostUserInflight, File)> {
    // No more than 2^16 parts of little more than a mebibyte.
    let len = u64::from(asked.num_queues) * Record::len(asked.queue_size) as u64;
    // SAFETY: the name is a string that ends with a NUL and lives across the call.
    let fd = unsafe { libc::memfd_create(c"in-flight".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor, nobody else has it.
    let file = unsafe { File::from_raw_fd(fd) };
    file.set_len(len)?;
    let made = VhostUserInflight::new(len, 0, asked.num_queues, asked.queue_size);
    Ok((made, file))
}

impl InFlight {
    /// Maps a record.
    pub(super) fn map(given: &VhostUserInflight, file: File) -> io::Result<Self> {
        let (rings, entries) = (given.num_queues, given.queue_size);
        let len = usize::from(rings) * Record::len(entries);
        let there = file.metadata()?.len().saturating_sub(given.mmap_offset);
        let there = there.min(given.mmap_size);
        if entries == 0 || len as u64 > there {
            return Err(refused(format!(
                "a record of {rings} rings with {entries} entries has {len} bytes, not {there}"
            )));
        }
        let offset = FileOffset::new(file, given.mmap_offset);
        let memory = MmapRegion::from_file(offset, len).map_err(refused)?;
        Ok(Self {
            memory: Arc::new(memory),
            rings,
            entries,
        })
    }

    /// The record of one ring, if there is room for one.
    pub(super) fn of_ring(&self, index: u16, entries: u16) -> Option<Record> {
        if index >= self.rings || entries > self.entries {
            return None;
        }
        let offset = usize::from(index) * Record::len(self.entries);
        Some(Record::new(self.memory.clone(), offset, entries))
    }
}
