//! Guest memory for tests.

use crate::memory::{Memory, Ram};
use std::fs::File;
use std::os::fd::FromRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestAddressSpace};

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
    /// Makes empty memory, which another process could map by its descriptor.
    pub fn new() -> Self {
        // SAFETY: the name is a C string, and the descriptor is fresh and nobody else has it.
        let file =
            unsafe { File::from_raw_fd(libc::memfd_create(c"test-guest".as_ptr(), libc::MFD_CLOEXEC)) };
        file.set_len(MEMORY_SIZE).expect("guest memory");
        let range = (
            GuestAddress(0),
            MEMORY_SIZE as usize,
            Some(FileOffset::new(file, 0)),
        );
        Self::with(Ram::from_ranges_with_files([range]).expect("guest memory"))
    }

    /// Makes empty memory that only this process can have.
    pub fn private() -> Self {
        Self::with(Ram::from_ranges(&[(GuestAddress(0), MEMORY_SIZE as usize)]).expect("guest memory"))
    }

    fn with(ram: Ram) -> Self {
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

    pub(super) fn read_u16(&self, address: u64) -> u16 {
        self.memory
            .memory()
            .load(GuestAddress(address), Ordering::Acquire)
            .expect("read from guest memory")
    }

    pub(super) fn write_u16(&self, address: u64, value: u16) {
        self.memory
            .memory()
            .store(value, GuestAddress(address), Ordering::Release)
            .expect("write to guest memory");
    }
}
