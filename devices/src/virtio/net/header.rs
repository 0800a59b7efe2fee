//! The header before each frame (virtio 1.3 §5.1.6), feature bits, and the sizes that follow from them.

use super::tap::Offloads;

/// Bytes of the header; modern devices always have the field for the number of buffers.
pub const HEADER_LEN: usize = 12;
/// Offset of the number of buffers in the header.
pub const BUFFER_COUNT_OFFSET: usize = 10;
/// The longest frame with header: an IP packet of 64 KiB that is still to be segmented, an Ethernet header, a VLAN tag.
pub const MAX_FRAME: usize = HEADER_LEN + 14 + 4 + 65_535;

/// Feature bit numbers (§5.1.3).
pub mod feature {
    /// Driver leaves checksums to the device.
    pub const CSUM: u32 = 0;
    /// Driver takes frames without checksum.
    pub const GUEST_CSUM: u32 = 1;
    /// The configuration space tells the MTU.
    pub const MTU: u32 = 3;
    /// The configuration space tells the address.
    pub const MAC: u32 = 5;
    /// Driver takes unsegmented TCP over IPv4.
    pub const GUEST_TSO4: u32 = 7;
    /// Driver takes unsegmented TCP over IPv6.
    pub const GUEST_TSO6: u32 = 8;
    /// Driver takes unsegmented TCP with ECN.
    pub const GUEST_ECN: u32 = 9;
    /// Driver takes unfragmented UDP.
    pub const GUEST_UFO: u32 = 10;
    /// Device takes unsegmented TCP over IPv4.
    pub const HOST_TSO4: u32 = 11;
    /// Device takes unsegmented TCP over IPv6.
    pub const HOST_TSO6: u32 = 12;
    /// Device takes unsegmented TCP with ECN.
    pub const HOST_ECN: u32 = 13;
    /// Device takes unfragmented UDP.
    pub const HOST_UFO: u32 = 14;
    /// Frames may be spread over several receive buffers.
    pub const MRG_RXBUF: u32 = 15;
    /// The configuration space tells the link's state.
    pub const STATUS: u32 = 16;
    /// Driver takes unsegmented UDP over IPv4.
    pub const GUEST_USO4: u32 = 54;
    /// Driver takes unsegmented UDP over IPv6.
    pub const GUEST_USO6: u32 = 55;
    /// Device takes unsegmented UDP.
    pub const HOST_USO: u32 = 56;
}

/// Pairs of what the driver accepts and what the host may leave undone then.
const GUEST_OFFLOADS: [(u32, u32); 7] = [
    (feature::GUEST_CSUM, Offloads::CHECKSUM),
    (feature::GUEST_TSO4, Offloads::TSO4),
    (feature::GUEST_TSO6, Offloads::TSO6),
    (feature::GUEST_ECN, Offloads::ECN),
    (feature::GUEST_UFO, Offloads::UFO),
    (feature::GUEST_USO4, Offloads::USO & 0x20),
    (feature::GUEST_USO6, Offloads::USO & 0x40),
];

/// Pairs of what the device offers to do and what the host has to know for it.
const HOST_OFFLOADS: [(u32, u32); 6] = [
    (feature::CSUM, Offloads::CHECKSUM),
    (feature::HOST_TSO4, Offloads::TSO4),
    (feature::HOST_TSO6, Offloads::TSO6),
    (feature::HOST_ECN, Offloads::ECN),
    (feature::HOST_UFO, Offloads::UFO),
    (feature::HOST_USO, Offloads::USO),
];

/// The features to offer on a host that knows these offloads.
pub fn offered(offloads: Offloads) -> u64 {
    let always = [feature::MTU, feature::MAC, feature::MRG_RXBUF, feature::STATUS];
    let possible = GUEST_OFFLOADS
        .iter()
        .chain(&HOST_OFFLOADS)
        .filter(|(_, need)| offloads.0 & need == *need);
    always
        .iter()
        .chain(possible.map(|(bit, _)| bit))
        .fold(0, |features, bit| features | 1 << bit)
}

/// What the host may leave undone for a driver that accepted these features.
pub fn offloads(features: u64) -> Offloads {
    let accepted = GUEST_OFFLOADS.iter().filter(|(bit, _)| features & 1 << bit != 0);
    let offloads = accepted.fold(0, |offloads, (_, offload)| offloads | offload);
    // Without checksum offload there is no other (§5.1.3.1), and the host's kernel refuses what makes no sense by itself: ECN
    // without TCP, one kind of UDP segmentation without the other.
    let mut offloads = if offloads & Offloads::CHECKSUM == 0 {
        0
    } else {
        offloads
    };
    if offloads & (Offloads::TSO4 | Offloads::TSO6) == 0 {
        offloads &= !Offloads::ECN;
    }
    if offloads & Offloads::USO != Offloads::USO {
        offloads &= !Offloads::USO;
    }
    Offloads(offloads)
}

/// The longest frame with header that the host sends to a driver that accepted these features.
pub fn max_frame(features: u64, mtu: u16) -> usize {
    match offloads(features).0 & !Offloads::CHECKSUM {
        0 => HEADER_LEN + 14 + 4 + usize::from(mtu),
        _ => MAX_FRAME,
    }
}
