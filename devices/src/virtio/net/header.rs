//! The header before each frame (virtio 1.3 §5.1.6): what is left to be done with it.
//!
//! On the way to the guest the host's kernel writes it. On the way from the guest it is read once, checked against what
//! device and driver agreed on, and given to the kernel from our copy, so that no guest reaches parts of the host's network
//! stack that it was not offered.

use super::features::{self, CSUM, HOST_ECN, HOST_TSO4, HOST_TSO6, HOST_UFO, HOST_USO};

/// Bytes of the header; modern devices always have the field for the number of buffers.
pub const HEADER_LEN: usize = 12;
/// Offset of the number of buffers in the header.
pub const BUFFER_COUNT_OFFSET: usize = 10;
/// The longest frame with header: an IP packet of 64 KiB that is still to be segmented, an Ethernet header, a VLAN tag.
pub const MAX_FRAME: usize = HEADER_LEN + 14 + 4 + 65_535;
/// The checksum is still to be computed.
pub const NEEDS_CSUM: u8 = 1;

/// How a frame is to be segmented.
pub mod gso {
    /// Not at all.
    pub const NONE: u8 = 0;
    /// As TCP over IPv4.
    pub const TCPV4: u8 = 1;
    /// By fragmentation of UDP.
    pub const UDP: u8 = 3;
    /// As TCP over IPv6.
    pub const TCPV6: u8 = 4;
    /// As UDP.
    pub const UDP_L4: u8 = 5;
    /// Added to TCP: with congestion notification.
    pub const ECN: u8 = 0x80;
}

/// `struct virtio_net_hdr`, without the number of buffers, which only the device sets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Header {
    /// [`NEEDS_CSUM`] and bits that mean something in the other direction only.
    pub flags: u8,
    /// One of [`gso`].
    pub gso_type: u8,
    /// Length of the headers to repeat: a hint.
    pub hdr_len: u16,
    /// Payload of each segment.
    pub gso_size: u16,
    /// Where the checksum starts, counted from the frame's first byte.
    pub csum_start: u16,
    /// Where it goes, counted from `csum_start`.
    pub csum_offset: u16,
}

impl Header {
    /// Reads a header.
    pub fn decode(bytes: [u8; HEADER_LEN]) -> Self {
        let [flags, gso_type, a, b, c, d, e, f, g, h, _, _] = bytes;
        Self {
            flags,
            gso_type,
            hdr_len: u16::from_le_bytes([a, b]),
            gso_size: u16::from_le_bytes([c, d]),
            csum_start: u16::from_le_bytes([e, f]),
            csum_offset: u16::from_le_bytes([g, h]),
        }
    }

    /// Writes a header for a frame in one buffer.
    pub fn encode(self) -> [u8; HEADER_LEN] {
        let [a, b] = self.hdr_len.to_le_bytes();
        let [c, d] = self.gso_size.to_le_bytes();
        let [e, f] = self.csum_start.to_le_bytes();
        let [g, h] = self.csum_offset.to_le_bytes();
        [self.flags, self.gso_type, a, b, c, d, e, f, g, h, 0, 0]
    }

    /// The header as it may go to the host's kernel with a frame of `len` bytes, of a driver with these features; nothing
    /// if the driver breaks the rules (§5.1.6.2.1) and the frame is to be dropped.
    pub fn checked(self, features: u64, len: u64) -> Option<Self> {
        let mut header = Self::default();
        if self.flags & NEEDS_CSUM != 0 {
            let end = u64::from(self.csum_start) + u64::from(self.csum_offset) + 2;
            if !features::has(features, CSUM) || end > len {
                return None;
            }
            header.flags = NEEDS_CSUM;
            header.csum_start = self.csum_start;
            header.csum_offset = self.csum_offset;
        }
        let needed = match self.gso_type & !gso::ECN {
            gso::NONE => return (self.gso_type == gso::NONE).then_some(header),
            gso::TCPV4 => HOST_TSO4,
            gso::TCPV6 => HOST_TSO6,
            gso::UDP => HOST_UFO,
            gso::UDP_L4 => HOST_USO,
            _ => return None,
        };
        let ecn = self.gso_type & gso::ECN != 0;
        let ecn_allowed = features::has(features, HOST_ECN) && matches!(needed, HOST_TSO4 | HOST_TSO6);
        let allowed = features::has(features, needed) && (!ecn || ecn_allowed);
        // The kernel computes the checksums of segments, so it has to know where they are (§5.1.6.2.1).
        if !allowed || self.gso_size == 0 || header.flags & NEEDS_CSUM == 0 {
            return None;
        }
        header.gso_type = self.gso_type;
        header.gso_size = self.gso_size;
        // A wrong hint is no reason to lose the frame; the kernel would refuse one beyond its end.
        header.hdr_len = self.hdr_len.min(u16::try_from(len).unwrap_or(u16::MAX));
        Some(header)
    }
}

#[cfg(test)]
#[path = "header_tests.rs"]
mod tests;
