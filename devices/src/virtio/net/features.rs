//! Feature bits (virtio 1.3 §5.1.3), and what follows from the accepted ones.

use super::header::{HEADER_LEN, MAX_FRAME};
use super::tap::Offloads;

/// Driver leaves checksums to the device.
pub const CSUM: u32 = 0;
/// Driver takes frames without checksum.
pub const GUEST_CSUM: u32 = 1;
/// The control queue changes what the driver takes.
pub const CTRL_GUEST_OFFLOADS: u32 = 2;
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
/// There is a control queue.
pub const CTRL_VQ: u32 = 17;
/// The control queue has receive modes and address tables.
pub const CTRL_RX: u32 = 18;
/// The control queue has more receive modes.
pub const CTRL_RX_EXTRA: u32 = 20;
/// Driver announces itself to the network when it is asked to.
pub const GUEST_ANNOUNCE: u32 = 21;
/// There are several pairs of queues.
pub const MQ: u32 = 22;
/// The control queue sets the address.
pub const CTRL_MAC_ADDR: u32 = 23;
/// Driver takes unsegmented UDP over IPv4.
pub const GUEST_USO4: u32 = 54;
/// Driver takes unsegmented UDP over IPv6.
pub const GUEST_USO6: u32 = 55;
/// Device takes unsegmented UDP.
pub const HOST_USO: u32 = 56;

/// Offered on every host.
const ALWAYS: [u32; 9] = [
    MTU,
    MAC,
    MRG_RXBUF,
    STATUS,
    CTRL_VQ,
    CTRL_RX,
    CTRL_RX_EXTRA,
    GUEST_ANNOUNCE,
    CTRL_MAC_ADDR,
];

/// Pairs of what the driver accepts and what the host may leave undone then.
const GUEST_OFFLOADS: [(u32, u32); 7] = [
    (GUEST_CSUM, Offloads::CHECKSUM),
    (GUEST_TSO4, Offloads::TSO4),
    (GUEST_TSO6, Offloads::TSO6),
    (GUEST_ECN, Offloads::ECN),
    (GUEST_UFO, Offloads::UFO),
    (GUEST_USO4, Offloads::USO4),
    (GUEST_USO6, Offloads::USO6),
];

/// Pairs of what the device offers to do and what the host has to know for it.
const HOST_OFFLOADS: [(u32, u32); 6] = [
    (CSUM, Offloads::CHECKSUM),
    (HOST_TSO4, Offloads::TSO4),
    (HOST_TSO6, Offloads::TSO6),
    (HOST_ECN, Offloads::ECN),
    (HOST_UFO, Offloads::UFO),
    (HOST_USO, Offloads::USO4 | Offloads::USO6),
];

/// Whether a set of features has the one with this number.
pub fn has(features: u64, bit: u32) -> bool {
    features & 1 << bit != 0
}

/// The features to offer with so many pairs of queues on a host that knows these offloads.
pub fn offered(known: Offloads, queue_pairs: u16) -> u64 {
    let possible = GUEST_OFFLOADS
        .iter()
        .chain(&HOST_OFFLOADS)
        .filter(|(_, need)| known.0 & need == *need);
    let sometimes = [
        (CTRL_GUEST_OFFLOADS, known.0 & Offloads::CHECKSUM != 0),
        (MQ, queue_pairs > 1),
    ];
    ALWAYS
        .iter()
        .chain(possible.map(|(bit, _)| bit))
        .chain(sometimes.iter().filter(|(_, offer)| *offer).map(|(bit, _)| bit))
        .fold(0, |features, bit| features | 1 << bit)
}

/// Those of the features that say what the driver takes: what the control queue may change (§5.1.6.5.6).
pub fn guest_offloads(features: u64) -> u64 {
    let all = GUEST_OFFLOADS.iter().fold(0, |all, (bit, _)| all | 1 << bit);
    features & all
}

/// What the host may leave undone for a driver that accepted these features.
pub fn offloads(features: u64) -> Offloads {
    let accepted = GUEST_OFFLOADS.iter().filter(|(bit, _)| has(features, *bit));
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
    let both = Offloads::USO4 | Offloads::USO6;
    if offloads & both != both {
        offloads &= !both;
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

/// Pairs of queues that a driver with these features knows of. The control queue comes after them (§5.1.2).
pub fn pairs(features: u64, queue_pairs: u16) -> u16 {
    if has(features, MQ) { queue_pairs } else { 1 }
}

#[cfg(test)]
#[path = "features_tests.rs"]
mod tests;
