//! A request's bytes, scattered over guest memory: what a chain's readable or writable descriptors name.
//!
//! Addresses are the driver's claims. They are checked against guest memory on each access, never before, because
//! the memory map may change between the two.

use crate::memory::Ram;
use smallvec::SmallVec;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

/// One piece of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Where it starts.
    pub address: GuestAddress,
    /// Number of bytes.
    pub len: u32,
}

/// The pieces of a buffer. Most have few, which need no memory of their own.
pub type Segments = SmallVec<[Segment; 4]>;

/// A buffer in the form that the kernel's vectored I/O takes.
pub type IoVecs = SmallVec<[libc::iovec; 4]>;

/// The driver named memory that it does not have, or less of it than the request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BufferError {
    /// Fewer bytes than needed.
    #[error("the buffer has {available} bytes where {needed} are needed")]
    TooShort {
        /// What is left in the buffer.
        available: u64,
        /// What was asked for.
        needed: u64,
    },
    /// No memory at this address.
    #[error("the buffer names guest memory at {address:#x} that does not exist")]
    BadAddress {
        /// Start of the segment.
        address: u64,
    },
}

/// Scattered bytes, consumed from the front.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Buffer {
    segments: Segments,
    /// Segments before this one are consumed.
    first: usize,
}

impl Buffer {
    /// Makes a buffer of these pieces.
    pub fn new(segments: impl Into<Segments>) -> Self {
        Self {
            segments: segments.into(),
            first: 0,
        }
    }

    /// The pieces that are left.
    pub fn segments(&self) -> &[Segment] {
        self.segments.get(self.first..).unwrap_or_default()
    }

    /// Number of bytes that are left. Cannot overflow: a chain has at most 1,024 segments of 32-bit length.
    pub fn len(&self) -> u64 {
        self.segments().iter().map(|segment| u64::from(segment.len)).sum()
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies the next bytes out of guest memory and consumes them.
    pub fn read(&mut self, ram: &Ram, data: &mut [u8]) -> Result<(), BufferError> {
        self.consume(data.len(), |address, range| {
            let part = data.get_mut(range)?;
            ram.read_slice(part, address).ok()
        })
    }

    /// Copies `data` to the next bytes in guest memory and consumes them.
    pub fn write(&mut self, ram: &Ram, data: &[u8]) -> Result<(), BufferError> {
        self.consume(data.len(), |address, range| {
            let part = data.get(range)?;
            ram.write_slice(part, address).ok()
        })
    }

    /// Copies bytes out of guest memory from `offset` on, and consumes nothing.
    pub fn read_at(&self, ram: &Ram, offset: u64, data: &mut [u8]) -> Result<(), BufferError> {
        self.visit(offset, data.len(), |address, range| {
            let part = data.get_mut(range)?;
            ram.read_slice(part, address).ok()
        })
    }

    /// Copies `data` to guest memory from `offset` on, and consumes nothing.
    pub fn write_at(&self, ram: &Ram, offset: u64, data: &[u8]) -> Result<(), BufferError> {
        self.visit(offset, data.len(), |address, range| {
            let part = data.get(range)?;
            ram.write_slice(part, address).ok()
        })
    }

    /// Consumes `count` bytes unseen.
    pub fn skip(&mut self, count: usize) -> Result<(), BufferError> {
        self.consume(count, |_, _| Some(()))
    }

    /// Keeps the first `at` bytes and returns the rest as a buffer of its own.
    pub fn split_off(&mut self, at: u64) -> Result<Buffer, BufferError> {
        let available = self.len();
        if at > available {
            return Err(BufferError::TooShort {
                available,
                needed: at,
            });
        }
        let (mut kept, mut rest) = (Segments::new(), Segments::new());
        let mut left = at;
        for segment in self.segments() {
            let here = u64::from(segment.len).min(left);
            left -= here;
            // `here` is at most the segment's length.
            let here = here as u32;
            if here > 0 {
                kept.push(Segment {
                    address: segment.address,
                    len: here,
                });
            }
            if here < segment.len {
                let address = GuestAddress(segment.address.0.wrapping_add(u64::from(here)));
                rest.push(Segment {
                    address,
                    len: segment.len - here,
                });
            }
        }
        *self = Buffer::new(kept);
        Ok(Buffer::new(rest))
    }

    /// The bytes that are left, at most `limit` of them, where they are in this process' memory, in the form that the
    /// kernel's vectored I/O takes. The caller keeps the memory map alive for as long as the pointers are in use.
    pub fn iovecs(&self, ram: &Ram, limit: u64) -> Result<IoVecs, BufferError> {
        let mut iovecs = IoVecs::new();
        self.add_iovecs(ram, limit, |iovec| iovecs.push(iovec))?;
        Ok(iovecs)
    }

    /// The same one by one. What was added before an error is of no use.
    pub fn add_iovecs(
        &self,
        ram: &Ram,
        limit: u64,
        mut add: impl FnMut(libc::iovec),
    ) -> Result<(), BufferError> {
        let mut left = limit;
        for segment in self.segments() {
            let len = u64::from(segment.len).min(left);
            left -= len;
            // A segment may span memory regions, then it is more than one slice. 64-bit hosts hold any u32 in a usize.
            for slice in ram.get_slices(segment.address, len as usize) {
                let slice = slice.map_err(|_| BufferError::BadAddress {
                    address: segment.address.0,
                })?;
                add(libc::iovec {
                    iov_base: slice.ptr_guard_mut().as_ptr().cast(),
                    iov_len: slice.len(),
                });
            }
        }
        Ok(())
    }

    fn visit(
        &self,
        mut offset: u64,
        count: usize,
        mut with: impl FnMut(GuestAddress, std::ops::Range<usize>) -> Option<()>,
    ) -> Result<(), BufferError> {
        let mut done = 0;
        for segment in self.segments() {
            let Some(left) = u64::from(segment.len)
                .checked_sub(offset)
                .filter(|left| *left > 0)
            else {
                offset -= u64::from(segment.len);
                continue;
            };
            if done == count {
                break;
            }
            // At most what is left of `count`.
            let here = left.min((count - done) as u64) as usize;
            let address = GuestAddress(segment.address.0.wrapping_add(offset));
            with(address, done..done + here).ok_or(BufferError::BadAddress {
                address: segment.address.0,
            })?;
            offset = 0;
            done += here;
        }
        match done == count {
            true => Ok(()),
            false => Err(BufferError::TooShort {
                available: done as u64,
                needed: count as u64,
            }),
        }
    }

    fn consume(
        &mut self,
        count: usize,
        mut with: impl FnMut(GuestAddress, std::ops::Range<usize>) -> Option<()>,
    ) -> Result<(), BufferError> {
        let mut done = 0;
        while done < count {
            let short = BufferError::TooShort {
                available: done as u64,
                needed: count as u64,
            };
            let segment = self.segments.get_mut(self.first).ok_or(short)?;
            let here = (segment.len as usize).min(count - done);
            if here > 0 {
                with(segment.address, done..done + here).ok_or(BufferError::BadAddress {
                    address: segment.address.0,
                })?;
                segment.address = GuestAddress(segment.address.0.wrapping_add(here as u64));
                segment.len -= here as u32;
                done += here;
            }
            if segment.len == 0 {
                self.first += 1;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "buffer_tests.rs"]
mod tests;
