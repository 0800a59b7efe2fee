//! The leases that dnsmasq gave out, read from its lease file.
//!
//! The file is written by a process that talks to instances, so nothing in it is believed: lines that do not
//! make sense are passed over, and its size is bounded.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::net::IpAddr;
use std::path::Path;

use serde::Serialize;

use crate::names::check_host_name;
use crate::{Error, HwAddr, Result};

/// No network has this many leases: about 100,000 of them.
const LARGEST_FILE: u64 = 8 << 20;

/// One line of `GET /1.0/networks/{name}/leases`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lease {
    /// The instance's name, or `<network>.gw` for the network's own address.
    pub hostname: String,
    /// Its hardware address; empty for the network's own.
    pub hwaddr: String,
    /// The address.
    pub address: IpAddr,
    /// How it came about.
    #[serde(rename = "type")]
    pub kind: LeaseKind,
}

/// How an address came to its holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeaseKind {
    /// Reserved.
    Static,
    /// Given by DHCP from the range.
    Dynamic,
    /// The network's own address.
    Gateway,
}

/// A line of the lease file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) address: IpAddr,
    /// Unknown for DHCPv6 clients whose identifier does not contain it.
    pub(crate) hwaddr: Option<HwAddr>,
    pub(crate) hostname: Option<String>,
    /// The client identifier, which together with the hardware address makes a DHCPv4 client who it is.
    pub(crate) client: Vec<u8>,
}

/// Reads the lease file; one that is missing has no leases.
pub(crate) fn read(path: &Path) -> Result<Vec<Given>> {
    let mut text = Vec::new();
    match File::open(path) {
        Ok(file) => {
            file.take(LARGEST_FILE)
                .read_to_end(&mut text)
                .map_err(Error::io("read", path))?;
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(Error::io("open", path)(error)),
    }
    Ok(parse(&String::from_utf8_lossy(&text)))
}

/// Reads lines of five fields: end of the lease, hardware address (for IPv6 an association number), address,
/// host name or `*`, client identifier (for IPv6 the DUID) or `*`. The line `duid …` is the server's own
/// identifier.
fn parse(text: &str) -> Vec<Given> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Given> {
    let mut fields = line.split(' ');
    let _end: u64 = fields.next()?.parse().ok()?;
    let station = fields.next()?;
    let address: IpAddr = fields.next()?.parse().ok()?;
    let hostname = fields.next()?;
    let identifier = fields.next()?;
    let hwaddr = match address {
        // Other hardware types than Ethernet are written `06-…`.
        IpAddr::V4(_) => Some(station.parse().ok()?),
        IpAddr::V6(_) => hwaddr_of_duid(identifier),
    };
    let hostname = (check_host_name(hostname).is_ok()).then(|| hostname.to_owned());
    Some(Given {
        address,
        hwaddr,
        hostname,
        client: octets(identifier).unwrap_or_default(),
    })
}

/// The bytes of an identifier written as `01:10:66:…`. Both kinds are bounded: by their length field of one
/// byte, or by RFC 8415 §11.1 (130 bytes).
fn octets(text: &str) -> Option<Vec<u8>> {
    if text.len() > 3 * 255 {
        return None;
    }
    text.split(':')
        .map(|byte| u8::from_str_radix(byte, 16).ok().filter(|_| byte.len() == 2))
        .collect()
}

/// The hardware address in a DUID of type 1 (with time) or 3 (without), RFC 8415 §11.2 and §11.4, for
/// Ethernet.
fn hwaddr_of_duid(text: &str) -> Option<HwAddr> {
    let bytes = octets(text)?;
    let address: [u8; 6] = match bytes.as_slice() {
        [0, 1, 0, 1, _, _, _, _, address @ ..] | [0, 3, 0, 1, address @ ..] => address.try_into().ok()?,
        _ => return None,
    };
    HwAddr::from_bytes(address)
}

#[cfg(test)]
#[path = "leases_tests.rs"]
mod tests;
