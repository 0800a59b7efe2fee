//! Requests of the driver and their answers (virtio 1.3 §5.15.6).

use crate::memory::Ram;
use crate::virtio::buffer::Buffer;

/// Bytes of a request: type, padding, address, number of blocks, padding.
const REQUEST_LEN: usize = 24;
/// Bytes of an answer: type, padding, state.
const RESPONSE_LEN: usize = 10;

/// What the driver asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// Let me use these blocks.
    Plug {
        /// First guest address.
        address: u64,
        /// Number of blocks.
        count: u16,
    },
    /// I use these blocks no longer.
    Unplug {
        /// First guest address.
        address: u64,
        /// Number of blocks.
        count: u16,
    },
    /// I use nothing.
    UnplugAll,
    /// Which of these blocks do I use?
    State {
        /// First guest address.
        address: u64,
        /// Number of blocks.
        count: u16,
    },
}

impl Request {
    /// Reads a request. Nothing comes of one that is too short, lies nowhere or is of no known type.
    pub(super) fn read(buffer: &mut Buffer, ram: &Ram) -> Option<Self> {
        let mut bytes = [0; REQUEST_LEN];
        // A driver may leave out what a request without blocks does not need.
        let len = (buffer.len().min(REQUEST_LEN as u64)) as usize;
        buffer.read(ram, bytes.get_mut(..len)?).ok()?;
        let [
            t0,
            t1,
            _,
            _,
            _,
            _,
            _,
            _,
            a0,
            a1,
            a2,
            a3,
            a4,
            a5,
            a6,
            a7,
            c0,
            c1,
            ..,
        ] = bytes;
        let address = u64::from_le_bytes([a0, a1, a2, a3, a4, a5, a6, a7]);
        let count = u16::from_le_bytes([c0, c1]);
        match (u16::from_le_bytes([t0, t1]), len) {
            (0, REQUEST_LEN) => Some(Self::Plug { address, count }),
            (1, REQUEST_LEN) => Some(Self::Unplug { address, count }),
            (2, 2..) => Some(Self::UnplugAll),
            (3, REQUEST_LEN) => Some(Self::State { address, count }),
            _ => None,
        }
    }
}

/// State of several blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum BlockState {
    /// All are plugged.
    Plugged = 0,
    /// None is.
    Unplugged = 1,
    /// Some are.
    Mixed = 2,
}

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Response {
    /// Done.
    Ack,
    /// Not now: it would be more than requested.
    Nack,
    /// Try again later.
    Busy,
    /// The request makes no sense.
    Error,
    /// What was asked for.
    State(BlockState),
}

impl Response {
    /// Writes the answer. Returns how many bytes were written.
    pub(super) fn write(self, buffer: &mut Buffer, ram: &Ram) -> u32 {
        let (kind, state) = match self {
            Self::Ack => (0u16, 0),
            Self::State(state) => (0, state as u16),
            Self::Nack => (1, 0),
            Self::Busy => (2, 0),
            Self::Error => (3, 0),
        };
        let mut bytes = [0; RESPONSE_LEN];
        bytes[..2].copy_from_slice(&kind.to_le_bytes());
        bytes[8..].copy_from_slice(&state.to_le_bytes());
        match buffer.write(ram, &bytes) {
            Ok(()) => RESPONSE_LEN as u32,
            Err(_) => 0,
        }
    }
}
