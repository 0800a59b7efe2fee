//! Keys of networks. Only bridges are made, so only their keys are taken; values of addresses are checked further by
//! the network room, which knows what fits together.

use api::Map;

use super::values::Kind;
use super::{invalid, unknown};
use crate::ApiError;

const KEYS: &[(&str, Kind)] = &[
    ("bridge.driver", Kind::OneOf(&["native"])),
    ("bridge.hwaddr", Kind::Any),
    ("bridge.mtu", Kind::Uint32),
    ("dns.domain", Kind::Any),
    ("dns.mode", Kind::OneOf(&["managed", "dynamic", "none"])),
    ("ipv4.address", Kind::Ipv4Cidr),
    ("ipv4.dhcp", Kind::Bool),
    ("ipv4.dhcp.expiry", Kind::Any),
    ("ipv4.dhcp.gateway", Kind::Any),
    ("ipv4.dhcp.ranges", Kind::Any),
    ("ipv4.firewall", Kind::Bool),
    ("ipv4.nat", Kind::Bool),
    ("ipv4.routing", Kind::Bool),
    ("ipv6.address", Kind::Ipv6Cidr),
    ("ipv6.dhcp", Kind::Bool),
    ("ipv6.dhcp.expiry", Kind::Any),
    ("ipv6.dhcp.ranges", Kind::Any),
    ("ipv6.dhcp.stateful", Kind::Bool),
    ("ipv6.firewall", Kind::Bool),
    ("ipv6.nat", Kind::Bool),
    ("ipv6.routing", Kind::Bool),
];

/// Checks the configuration of a bridge.
pub fn check_network_config(config: &Map) -> Result<(), ApiError> {
    for (key, value) in config {
        if key.starts_with("user.") || key.starts_with("volatile.") {
            continue;
        }
        let (_, kind) = KEYS
            .iter()
            .find(|(known, _)| key == known)
            .ok_or_else(|| unknown(key))?;
        kind.check(value).map_err(|why| invalid(key, why))?;
    }
    Ok(())
}
