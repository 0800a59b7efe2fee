//! What the driver asks of a block device (virtio 1.3 §5.2.6), parsed and checked against the disk once.

use super::file::Erase;
use crate::memory::Ram;
use crate::virtio::buffer::Buffer;
use crate::virtio::queue::Chain;
use std::ops::Range;
use virtio_bindings::virtio_blk as spec;

/// Bytes per sector, always 512 in virtio (virtio 1.3 §5.2.5).
pub const SECTOR: u64 = 512;
/// Bytes of a serial number (§5.2.6, VIRTIO_BLK_T_GET_ID).
pub const SERIAL_LEN: usize = spec::VIRTIO_BLK_ID_BYTES as usize;
/// The most sectors that one discard may name: 2 GiB, a bound for how long the host's file system is busy with it.
pub const MAX_DISCARD_SECTORS: u32 = 1 << 22;
/// The most sectors that one write-zeroes may name: 16 MiB, because where the host cannot do it by itself we write them.
pub const MAX_WRITE_ZEROES_SECTORS: u32 = 1 << 15;

/// How a request ended (§5.2.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// Done.
    Ok = spec::VIRTIO_BLK_S_OK as u8,
    /// The request or the host's storage is at fault.
    IoError = spec::VIRTIO_BLK_S_IOERR as u8,
    /// No such request.
    Unsupported = spec::VIRTIO_BLK_S_UNSUPP as u8,
}

/// What to do. All byte ranges lie within the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Read the disk's bytes from this offset to the data buffer.
    Read {
        /// First byte on the disk.
        offset: u64,
    },
    /// Write the data buffer to the disk from this offset.
    Write {
        /// First byte on the disk.
        offset: u64,
    },
    /// Make completed writes durable.
    Flush,
    /// Write the serial number to the data buffer.
    GetId,
    /// Discard these bytes, or let them read as zero.
    Erase(Erase, Range<u64>),
}

/// A well-formed request.
#[derive(Debug)]
pub struct Request {
    /// What to do, or what is wrong with the request.
    pub operation: Result<Operation, Status>,
    /// The bytes to read or write.
    pub data: Buffer,
    /// The one byte for the [`Status`].
    pub status: Buffer,
}

impl Request {
    /// Parses a chain for a disk of `size` bytes. Returns nothing if there is not even room for a status.
    pub fn parse(chain: Chain, ram: &Ram, size: u64, read_only: bool) -> Option<Self> {
        let Chain {
            mut readable,
            mut writable,
            ..
        } = chain;
        // The status is the last writable byte, whatever the framing (§5.2.6.4, §2.7.4).
        let status = writable.split_off(writable.len().checked_sub(1)?).ok()?;
        let mut header = [0; 16];
        if readable.read(ram, &mut header).is_err() {
            return Some(Self {
                operation: Err(Status::IoError),
                data: Buffer::default(),
                status,
            });
        }
        let [t0, t1, t2, t3, _, _, _, _, sector @ ..] = header;
        let sector = u64::from_le_bytes(sector);
        let kind = u32::from_le_bytes([t0, t1, t2, t3]);
        let (operation, data) = match kind {
            spec::VIRTIO_BLK_T_IN => {
                let range = data_range(sector, writable.len(), size);
                (
                    range.map(|range| Operation::Read { offset: range.start }),
                    writable,
                )
            }
            spec::VIRTIO_BLK_T_OUT if !read_only => {
                let range = data_range(sector, readable.len(), size);
                (
                    range.map(|range| Operation::Write { offset: range.start }),
                    readable,
                )
            }
            spec::VIRTIO_BLK_T_FLUSH => (Ok(Operation::Flush), Buffer::default()),
            spec::VIRTIO_BLK_T_GET_ID => (Ok(Operation::GetId), writable),
            spec::VIRTIO_BLK_T_DISCARD | spec::VIRTIO_BLK_T_WRITE_ZEROES if !read_only => {
                (parse_segment(&mut readable, ram, kind, size), Buffer::default())
            }
            // §5.2.6.2: a read-only device fails writes with an I/O error.
            spec::VIRTIO_BLK_T_OUT | spec::VIRTIO_BLK_T_DISCARD | spec::VIRTIO_BLK_T_WRITE_ZEROES => {
                (Err(Status::IoError), Buffer::default())
            }
            _ => (Err(Status::Unsupported), Buffer::default()),
        };
        Some(Self {
            operation,
            data,
            status,
        })
    }
}

/// The bytes of `len` from `sector`, if they are whole sectors within the disk.
fn data_range(sector: u64, len: u64, size: u64) -> Result<Range<u64>, Status> {
    let start = sector.checked_mul(SECTOR).ok_or(Status::IoError)?;
    let end = start.checked_add(len).ok_or(Status::IoError)?;
    match len.is_multiple_of(SECTOR) && end <= size {
        true => Ok(start..end),
        false => Err(Status::IoError),
    }
}

/// The one segment of a discard or write-zeroes request (§5.2.6); the configuration space says that there is one only.
fn parse_segment(data: &mut Buffer, ram: &Ram, kind: u32, size: u64) -> Result<Operation, Status> {
    let mut segment = [0; 16];
    if data.len() != 16 || data.read(ram, &mut segment).is_err() {
        return Err(Status::IoError);
    }
    let [s0, s1, s2, s3, s4, s5, s6, s7, n0, n1, n2, n3, flags @ ..] = segment;
    let sector = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
    let count = u32::from_le_bytes([n0, n1, n2, n3]);
    let flags = u32::from_le_bytes(flags);
    let unmap = flags & spec::VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP != 0;
    let discard = kind == spec::VIRTIO_BLK_T_DISCARD;
    // Reserved flags, and unmap in a discard, are "unsupported" (§5.2.6.2).
    if flags & !spec::VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP != 0 || discard && unmap {
        return Err(Status::Unsupported);
    }
    let limit = if discard {
        MAX_DISCARD_SECTORS
    } else {
        MAX_WRITE_ZEROES_SECTORS
    };
    if count > limit {
        return Err(Status::IoError);
    }
    let bytes = data_range(sector, u64::from(count) * SECTOR, size)?;
    let erase = match (discard, unmap) {
        (true, _) => Erase::Discard,
        (false, true) => Erase::ZeroUnmap,
        (false, false) => Erase::Zero,
    };
    Ok(Operation::Erase(erase, bytes))
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
