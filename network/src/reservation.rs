//! Reservations: which instance has which name and which fixed addresses on a network.
//!
//! A reservation is one line in one file that dnsmasq reads as a `--dhcp-host` (hardware address, addresses,
//! name). These files are the record, there is no other; the files with names for DNS follow from them.

use std::collections::HashSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::folder::Folder;
use crate::leases::Given;
use crate::names::{check_host_name, check_key};
use crate::{BridgeConfig, Error, HwAddr, Result, files};

/// How an address is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Choice<T> {
    /// Whatever DHCP (or the guest itself, for IPv6) comes to; nothing is fixed.
    #[default]
    Dynamic,
    /// Virga picks a free address and keeps it for this reservation; the same one when asked again.
    Pick,
    /// This one.
    Fixed(T),
}

/// A claim of an instance's network card on a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// Unique on the network and stable, for example `c1.eth0`; letters, digits, `.`, `_` and `-`.
    pub key: String,
    /// The DNS name the instance answers to: `c1`.
    pub hostname: String,
    /// The card's hardware address.
    pub hwaddr: HwAddr,
    /// Its IPv4 address.
    pub ipv4: Choice<Ipv4Addr>,
    /// Its IPv6 address.
    pub ipv6: Choice<Ipv6Addr>,
}

/// What a reservation comes to: everything a guest needs to configure itself without asking DHCP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reserved {
    /// The fixed IPv4 address with the network's prefix length.
    pub ipv4: Option<Ipv4Net>,
    /// The fixed IPv6 address with the network's prefix length.
    pub ipv6: Option<Ipv6Net>,
    /// The network's IPv4 router.
    pub gateway4: Option<Ipv4Addr>,
    /// The network's IPv6 router.
    pub gateway6: Option<Ipv6Addr>,
    /// Name servers.
    pub dns: Vec<IpAddr>,
    /// The domains to search.
    pub search: Vec<String>,
    /// The network's MTU.
    pub mtu: u32,
}

/// A reservation as its file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) hwaddr: HwAddr,
    pub(crate) ipv4: Option<Ipv4Addr>,
    pub(crate) ipv6: Option<Ipv6Addr>,
    pub(crate) hostname: String,
}

impl Entry {
    /// The line for `--dhcp-hostsdir`.
    fn line(&self) -> String {
        let mut line = self.hwaddr.to_string();
        if let Some(address) = self.ipv4 {
            line.push_str(&format!(",{address}"));
        }
        if let Some(address) = self.ipv6 {
            line.push_str(&format!(",[{address}]"));
        }
        format!("{line},{}\n", self.hostname)
    }

    /// The lines for `--hostsdir`; empty when no address is fixed.
    fn names(&self) -> String {
        let addresses = self
            .ipv4
            .map(IpAddr::V4)
            .into_iter()
            .chain(self.ipv6.map(IpAddr::V6));
        addresses
            .map(|address| format!("{address} {}\n", self.hostname))
            .collect()
    }

    fn parse(key: &str, text: &str) -> Option<Self> {
        let mut words = text.trim().split(',');
        let hwaddr = words.next()?.parse().ok()?;
        let mut entry = Self {
            key: key.to_owned(),
            hwaddr,
            ipv4: None,
            ipv6: None,
            hostname: String::new(),
        };
        for word in words {
            if let Some(address) = word.strip_prefix('[').and_then(|word| word.strip_suffix(']')) {
                entry.ipv6 = Some(address.parse().ok()?);
            } else if let Ok(address) = word.parse() {
                entry.ipv4 = Some(address);
            } else {
                entry.hostname = word.to_owned();
            }
        }
        check_host_name(&entry.hostname).ok()?;
        Some(entry)
    }
}

/// All reservations of a network.
pub(crate) fn all(folder: &Folder) -> Result<Vec<Entry>> {
    let hosts = folder.hosts();
    let mut entries = Vec::new();
    for key in files::names(&hosts)? {
        // A file that is not ours, or was damaged, reserves nothing.
        if let Ok(text) = fs::read_to_string(hosts.join(&key))
            && let Some(entry) = Entry::parse(&key, &text)
        {
            entries.push(entry);
        }
    }
    Ok(entries)
}

/// Decides the addresses of a reservation among those of others and writes it down. Tells also whether
/// dnsmasq has to forget something that it knew (it finds new files by itself).
pub(crate) fn reserve(
    folder: &Folder,
    config: &BridgeConfig,
    wanted: &Reservation,
    given: &[Given],
) -> Result<(Entry, bool)> {
    check_key(&wanted.key)?;
    check_host_name(&wanted.hostname)?;
    let (mine, others): (Vec<_>, Vec<_>) = all(folder)?
        .into_iter()
        .partition(|entry| entry.key == wanted.key);
    let mine = mine.into_iter().next();
    if let Some(other) = others.iter().find(|other| other.hwaddr == wanted.hwaddr) {
        return Err(in_use(wanted.hwaddr, other));
    }
    let earlier = mine.as_ref().filter(|entry| entry.hwaddr == wanted.hwaddr);
    let mut entry = Entry {
        key: wanted.key.clone(),
        hwaddr: wanted.hwaddr,
        ipv4: None,
        ipv6: None,
        hostname: wanted.hostname.clone(),
    };
    if let Some(net) = config.ipv4 {
        entry.ipv4 = match wanted.ipv4 {
            Choice::Dynamic => None,
            Choice::Fixed(address) => Some(check_ipv4(config, net, address, &others)?),
            Choice::Pick => Some(match earlier.and_then(|entry| entry.ipv4) {
                Some(address) if check_ipv4(config, net, address, &others).is_ok() => address,
                _ => pick_ipv4(config, net, wanted, &others, given)?,
            }),
        };
    } else if let Choice::Fixed(address) = wanted.ipv4 {
        return Err(refused(address, config, "the network has no IPv4"));
    }
    if let Some(net) = config.ipv6 {
        entry.ipv6 = match wanted.ipv6 {
            Choice::Dynamic => None,
            Choice::Fixed(address) => Some(check_ipv6(config, net, address, &others)?),
            // Unique as hardware addresses are, and the one that the guest would choose itself.
            Choice::Pick if net.prefix_len() <= 64 => {
                Some(check_ipv6(config, net, wanted.hwaddr.eui64(&net), &others)?)
            }
            Choice::Pick => None,
        };
    } else if let Choice::Fixed(address) = wanted.ipv6 {
        return Err(refused(address, config, "the network has no IPv6"));
    }
    let is_changed = mine.as_ref().is_some_and(|mine| *mine != entry);
    if mine.as_ref() != Some(&entry) {
        files::replace(&folder.hosts().join(&entry.key), entry.line().as_bytes(), 0o644)?;
    }
    write_names(folder, &entry)?;
    Ok((entry, is_changed))
}

/// The reservation of a key, if there is one that can be read.
pub(crate) fn find(folder: &Folder, key: &str) -> Result<Option<Entry>> {
    check_key(key)?;
    Ok(fs::read_to_string(folder.hosts().join(key))
        .ok()
        .and_then(|text| Entry::parse(key, &text)))
}

/// Forgets a reservation; tells whether there was one.
pub(crate) fn release(folder: &Folder, key: &str) -> Result<bool> {
    check_key(key)?;
    // The record goes last, so that a repetition after a crash still sees that there is something to do.
    let had_names = files::remove(&folder.names().join(key))?;
    Ok(files::remove(&folder.hosts().join(key))? || had_names)
}

/// Makes the files with names agree with the record, after a crash between the two. Tells whether dnsmasq has
/// to forget something.
pub(crate) fn repair(folder: &Folder) -> Result<bool> {
    let entries = all(folder)?;
    for entry in &entries {
        write_names(folder, entry)?;
    }
    let keys: HashSet<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
    let mut is_changed = false;
    for name in files::names(&folder.names())? {
        if !keys.contains(name.as_str()) {
            is_changed |= files::remove(&folder.names().join(name))?;
        }
    }
    Ok(is_changed)
}

/// What a guest is told.
pub(crate) fn describe(config: &BridgeConfig, entry: &Entry) -> Reserved {
    let has_dns = config.dns_mode != crate::DnsMode::None;
    let servers = [
        config.ipv4.map(|net| IpAddr::V4(net.addr())),
        config.ipv6.map(|net| IpAddr::V6(net.addr())),
    ];
    let search = match (has_dns, config.dns_search.is_empty()) {
        (_, false) => config.dns_search.clone(),
        (true, true) => vec![config.dns_domain.clone()],
        (false, true) => Vec::new(),
    };
    Reserved {
        ipv4: entry
            .ipv4
            .and_then(|address| Ipv4Net::new(address, config.ipv4?.prefix_len()).ok()),
        ipv6: entry
            .ipv6
            .and_then(|address| Ipv6Net::new(address, config.ipv6?.prefix_len()).ok()),
        gateway4: config
            .ipv4
            .map(|net| config.ipv4_dhcp_gateway.unwrap_or(net.addr())),
        gateway6: config.ipv6.map(|net| net.addr()),
        dns: servers.into_iter().flatten().filter(|_| has_dns).collect(),
        search,
        mtu: config.mtu,
    }
}

fn write_names(folder: &Folder, entry: &Entry) -> Result<()> {
    let path = folder.names().join(&entry.key);
    let names = entry.names();
    if names.is_empty() {
        files::remove(&path)?;
        return Ok(());
    }
    if fs::read(&path).is_ok_and(|now| now == names.as_bytes()) {
        return Ok(());
    }
    files::replace(&path, names.as_bytes(), 0o644)
}

fn check_ipv4(config: &BridgeConfig, net: Ipv4Net, address: Ipv4Addr, others: &[Entry]) -> Result<Ipv4Addr> {
    if !net.contains(&address) {
        return Err(refused(address, config, "it is outside the network's subnet"));
    }
    if address == net.network() || address == net.broadcast() {
        return Err(refused(
            address,
            config,
            "it is the subnet's network or broadcast address",
        ));
    }
    if address == net.addr() || Some(address) == config.ipv4_dhcp_gateway {
        return Err(refused(address, config, "it is the network's router"));
    }
    match others.iter().find(|other| other.ipv4 == Some(address)) {
        Some(other) => Err(in_use(address, other)),
        None => Ok(address),
    }
}

fn check_ipv6(config: &BridgeConfig, net: Ipv6Net, address: Ipv6Addr, others: &[Entry]) -> Result<Ipv6Addr> {
    if !net.contains(&address) {
        return Err(refused(address, config, "it is outside the network's subnet"));
    }
    if address == net.network() || address == net.addr() {
        return Err(refused(address, config, "it is the network's router"));
    }
    match others.iter().find(|other| other.ipv6 == Some(address)) {
        Some(other) => Err(in_use(address, other)),
        None => Ok(address),
    }
}

/// A free address: neither reserved nor leased. The search starts where the key's hash says, so that
/// instances that come and go do not take each other's addresses at once.
fn pick_ipv4(
    config: &BridgeConfig,
    net: Ipv4Net,
    wanted: &Reservation,
    others: &[Entry],
    given: &[Given],
) -> Result<Ipv4Addr> {
    let (first, last) = match config.ipv4_dhcp_ranges.first() {
        Some(range) => (u32::from(range.first), u32::from(range.last)),
        None => (
            u32::from(net.network()).saturating_add(1),
            u32::from(net.broadcast()).saturating_sub(1),
        ),
    };
    let leased: HashSet<u32> = given
        .iter()
        .filter(|lease| lease.hwaddr != Some(wanted.hwaddr))
        .filter_map(|lease| match lease.address {
            IpAddr::V4(address) => Some(u32::from(address)),
            IpAddr::V6(_) => None,
        })
        .collect();
    let reserved: HashSet<u32> = others
        .iter()
        .filter_map(|other| other.ipv4)
        .map(u32::from)
        .collect();
    let count = u64::from(last.saturating_sub(first)) + 1;
    let start = crate::manager::hash(wanted.key.as_bytes()) % count;
    (0..count)
        .map(|step| first + ((start + step) % count) as u32)
        .filter(|number| !leased.contains(number) && !reserved.contains(number))
        .map(Ipv4Addr::from)
        .find(|address| check_ipv4(config, net, *address, &[]).is_ok())
        .ok_or_else(|| Error::Exhausted {
            network: config.name.clone(),
            what: "IPv4 address",
        })
}

fn refused(address: impl std::fmt::Display, config: &BridgeConfig, reason: &'static str) -> Error {
    Error::AddressRefused {
        address: address.to_string(),
        network: config.name.clone(),
        reason,
    }
}

fn in_use(address: impl std::fmt::Display, other: &Entry) -> Error {
    Error::AddressInUse {
        address: address.to_string(),
        user: format!("{} ({})", other.hostname, other.key),
    }
}

#[cfg(test)]
#[path = "reservation_tests.rs"]
mod tests;
