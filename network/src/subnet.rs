//! Subnets for networks that ask for `auto`, and the check that a subnet is free.
//!
//! Only routes, addresses and the other networks of this daemon are looked at; nothing is ever sent out to
//! find out.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rand::Rng;

/// How many subnets are tried at random before they are tried in order.
const RANDOM_TRIES: usize = 128;

/// A subnet in use, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) net: IpNet,
    pub(crate) user: String,
    /// Whether it is an address of a link or a network, so that nothing inside can be given away, or a route,
    /// inside which more specific subnets may live.
    pub(crate) is_local: bool,
}

/// A free /24 told by its first address: anywhere in 10.0.0.0/8 (RFC 1918 §3), or else in the other private
/// blocks.
pub(crate) fn free_ipv4(used: &[Used], random: &mut impl Rng) -> Option<Ipv4Net> {
    let candidate = |first: u8, second: u8, third: u8| {
        Ipv4Net::new(Ipv4Addr::new(first, second, third, 1), 24)
            .ok()
            .filter(|net| is_untouched(IpNet::V4(*net), used))
    };
    let by_chance =
        (0..RANDOM_TRIES).find_map(|_| candidate(10, random.random_range(1..=254), random.random()));
    by_chance
        .or_else(|| (1..=254).find_map(|second| (0..=255).find_map(|third| candidate(10, second, third))))
        .or_else(|| (16..=31).find_map(|second| (0..=255).find_map(|third| candidate(172, second, third))))
        .or_else(|| (0..=255).find_map(|third| candidate(192, 168, third)))
}

/// A free /64 below fd42::/16, told by its first address (RFC 4193 §3.2: the rest of a local prefix is
/// random).
pub(crate) fn free_ipv6(used: &[Used], random: &mut impl Rng) -> Option<Ipv6Net> {
    (0..RANDOM_TRIES).find_map(|_| {
        let address = Ipv6Addr::new(
            0xfd42,
            random.random(),
            random.random(),
            random.random(),
            0,
            0,
            0,
            1,
        );
        Ipv6Net::new(address, 64)
            .ok()
            .filter(|net| is_untouched(IpNet::V6(*net), used))
    })
}

/// Who stands in the way of a subnet that was asked for by name. More freedom is left here than in a free
/// choice: a subnet inside a routed block may be what the administrator wants.
pub(crate) fn conflict(net: IpNet, used: &[Used]) -> Option<&Used> {
    used.iter().find(|other| {
        if other.is_local {
            overlap(net, other.net)
        } else {
            net.trunc() == other.net.trunc()
        }
    })
}

fn is_untouched(net: IpNet, used: &[Used]) -> bool {
    !used.iter().any(|other| overlap(net, other.net))
}

fn overlap(one: IpNet, other: IpNet) -> bool {
    one.contains(&other.network()) || other.contains(&one.network())
}

#[cfg(test)]
#[path = "subnet_tests.rs"]
mod tests;
