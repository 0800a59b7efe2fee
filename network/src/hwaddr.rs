//! Ethernet hardware addresses, as configuration writes them (`10:66:6a:01:02:03`).

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use ipnet::Ipv6Net;
use serde::{Deserialize, Serialize};

/// The vendor part that Incus gives to the links it makes; Virga follows so that tools recognise them.
const VENDOR: [u8; 3] = [0x10, 0x66, 0x6a];

/// A 48-bit hardware address of one station (not a group, not zero).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HwAddr([u8; 6]);

impl HwAddr {
    /// A random address with the usual vendor part.
    pub fn random() -> Self {
        let tail: [u8; 3] = rand::random();
        Self::with_tail(tail)
    }

    /// The address with the usual vendor part that a number decides, for links that must be recognised again.
    pub(crate) fn from_hash(hash: u64) -> Self {
        let [a, b, c, ..] = hash.to_le_bytes();
        Self::with_tail([a, b, c])
    }

    fn with_tail(tail: [u8; 3]) -> Self {
        let [a, b, c] = VENDOR;
        let [d, e, f] = tail;
        Self([a, b, c, d, e, f])
    }

    /// The address from its bytes; `None` for group addresses and zero, which no station can have.
    pub fn from_bytes(bytes: [u8; 6]) -> Option<Self> {
        (bytes[0] & 1 == 0 && bytes != [0; 6]).then_some(Self(bytes))
    }

    /// The six bytes.
    pub fn bytes(&self) -> [u8; 6] {
        self.0
    }

    /// The address that a station with this hardware address takes in `net` by itself (modified EUI-64,
    /// RFC 4291 appendix A).
    pub fn eui64(&self, net: &Ipv6Net) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.0;
        let host = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
        Ipv6Addr::from(u128::from(net.network()) | u128::from(host))
    }
}

impl fmt::Display for HwAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// The text is not the hardware address of one station.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a hardware address of the form 10:66:6a:01:02:03")]
pub struct ParseHwAddrError(String);

impl FromStr for HwAddr {
    type Err = ParseHwAddrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || ParseHwAddrError(text.to_owned());
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts
                .next()
                .filter(|part| part.len() == 2 && !part.starts_with('+'))
                .ok_or_else(refuse)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| refuse())?;
        }
        if parts.next().is_some() {
            return Err(refuse());
        }
        Self::from_bytes(bytes).ok_or_else(refuse)
    }
}

impl TryFrom<String> for HwAddr {
    type Error = ParseHwAddrError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<HwAddr> for String {
    fn from(address: HwAddr) -> Self {
        address.to_string()
    }
}
