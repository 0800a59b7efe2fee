//! Gathers the state of the instance from its kernel.

use std::collections::BTreeMap;
use std::path::Path;

use futures::TryStreamExt;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};

use crate::state::{
    CpuState, DiskState, GuestState, MemoryState, NetworkAddress, NetworkCounters, NetworkState, OsInfo,
};

/// Everything at once. What cannot be found out stays zero or empty: state must come from odd instances too.
pub(super) async fn gather() -> GuestState {
    GuestState {
        cpu: cpu(&read("/proc/stat")),
        disk: disk(),
        memory: memory(&read("/proc/meminfo")),
        network: network().await.unwrap_or_default(),
        os_info: os_info(),
        processes: processes(),
    }
}

/// The kernel's host name.
pub(super) fn hostname() -> String {
    nix::unistd::gethostname()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Sum of busy times of the first line of proc_stat(5), in nanoseconds. Guest time is within user time.
fn cpu(stat: &str) -> CpuState {
    const USER_HZ: i64 = 100; // the same on all architectures Linux has today
    let Some(line) = stat.lines().find(|line| line.starts_with("cpu ")) else {
        return CpuState::default();
    };
    let times: Vec<i64> = line
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    // user, nice, system, idle, iowait, irq, softirq
    let ticks: i64 = [0, 1, 2, 5, 6].iter().filter_map(|index| times.get(*index)).sum();
    CpuState {
        usage: ticks.saturating_mul(1_000_000_000 / USER_HZ),
    }
}

/// From proc_meminfo(5), which counts in kibibytes.
fn memory(meminfo: &str) -> MemoryState {
    let field = |name: &str| {
        let line = meminfo
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kibibytes: i64 = line
            .and_then(|value| value.split_whitespace().next()?.parse().ok())
            .unwrap_or(0);
        kibibytes.saturating_mul(1024)
    };
    MemoryState {
        usage: field("MemTotal") - field("MemAvailable"),
        total: field("MemTotal"),
        swap_usage: field("SwapTotal") - field("SwapFree"),
        ..MemoryState::default()
    }
}

fn disk() -> BTreeMap<String, DiskState> {
    let Ok(root) = nix::sys::statvfs::statvfs("/") else {
        return BTreeMap::new();
    };
    let block = root.fragment_size() as i64;
    let total = (root.blocks() as i64).saturating_mul(block);
    let free = (root.blocks_free() as i64).saturating_mul(block);
    BTreeMap::from([(
        "root".to_owned(),
        DiskState {
            usage: total - free,
            total,
        },
    )])
}

fn processes() -> i64 {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return 0;
    };
    let is_process = |name: &std::ffi::OsStr| name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
    entries
        .flatten()
        .filter(|entry| is_process(&entry.file_name()))
        .count() as i64
}

fn os_info() -> OsInfo {
    let release = [read("/etc/os-release"), read("/usr/lib/os-release")]
        .into_iter()
        .find(|text| !text.is_empty())
        .unwrap_or_default();
    let hostname = hostname();
    OsInfo {
        os: os_release_field(&release, "NAME").unwrap_or_default(),
        os_version: os_release_field(&release, "VERSION")
            .or_else(|| os_release_field(&release, "VERSION_ID"))
            .unwrap_or_default(),
        kernel_version: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        fqdn: full_name(&read("/etc/hosts"), &hostname).unwrap_or_else(|| hostname.clone()),
        hostname,
    }
}

/// os-release(5): shell assignments, values perhaps in quotes.
fn os_release_field(release: &str, name: &str) -> Option<String> {
    let value = release
        .lines()
        .find_map(|line| line.trim().strip_prefix(name)?.strip_prefix('='))?;
    let value = value.trim();
    let unquoted = ['"', '\'']
        .into_iter()
        .find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote))
        .unwrap_or(value);
    Some(
        unquoted
            .replace("\\\"", "\"")
            .replace("\\$", "$")
            .replace("\\\\", "\\"),
    )
}

/// hosts(5): the canonical name comes first, aliases follow.
fn full_name(hosts: &str, hostname: &str) -> Option<String> {
    hosts.lines().find_map(|line| {
        let line = line.split('#').next().unwrap_or_default();
        let names: Vec<&str> = line.split_whitespace().skip(1).collect();
        let of_host = |name: &str| {
            name.strip_prefix(hostname)
                .is_some_and(|rest| rest.starts_with('.'))
        };
        names
            .contains(&hostname)
            .then(|| names.into_iter().find(|name| of_host(name)))
            .flatten()
            .map(Into::into)
    })
}

/// Interfaces of the agent's network namespace.
async fn network() -> Option<BTreeMap<String, NetworkState>> {
    let (connection, handle, _) = rtnetlink::new_connection().ok()?;
    let connection = tokio::spawn(connection);
    let links: Vec<LinkMessage> = handle.link().get().execute().try_collect().await.ok()?;
    let addresses: Vec<AddressMessage> = handle
        .address()
        .get()
        .execute()
        .try_collect()
        .await
        .unwrap_or_default();
    connection.abort();
    Some(
        links
            .into_iter()
            .filter_map(|link| interface(&link, &addresses))
            .collect(),
    )
}

fn interface(link: &LinkMessage, addresses: &[AddressMessage]) -> Option<(String, NetworkState)> {
    let flags = link.header.flags;
    let mut name = None;
    let mut state = NetworkState {
        state: if flags.contains(LinkFlags::Up) {
            "up"
        } else {
            "down"
        }
        .into(),
        kind: kind(flags).into(),
        ..NetworkState::default()
    };
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(value) => name = Some(value.clone()),
            LinkAttribute::Mtu(mtu) => state.mtu = i64::from(*mtu),
            LinkAttribute::Address(address) if !flags.contains(LinkFlags::Loopback) => {
                state.hwaddr = hwaddr(address);
            }
            LinkAttribute::Stats64(stats) => {
                state.counters = NetworkCounters {
                    bytes_received: stats.rx_bytes as i64,
                    bytes_sent: stats.tx_bytes as i64,
                    packets_received: stats.rx_packets as i64,
                    packets_sent: stats.tx_packets as i64,
                    errors_received: stats.rx_errors as i64,
                    errors_sent: stats.tx_errors as i64,
                    packets_dropped_outbound: stats.tx_dropped as i64,
                    packets_dropped_inbound: stats.rx_dropped as i64,
                };
            }
            _ => {}
        }
    }
    state.addresses = addresses
        .iter()
        .filter(|address| address.header.index == link.header.index)
        .filter_map(address_state)
        .collect();
    name.map(|name| (name, state))
}

/// Colons between hexadecimal bytes.
fn hwaddr(address: &[u8]) -> String {
    let bytes: Vec<String> = address.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(":")
}

fn kind(flags: LinkFlags) -> &'static str {
    if flags.contains(LinkFlags::Loopback) {
        "loopback"
    } else if flags.contains(LinkFlags::Pointopoint) {
        "point-to-point"
    } else if flags.contains(LinkFlags::Broadcast) {
        "broadcast"
    } else {
        "unknown"
    }
}

fn address_state(message: &AddressMessage) -> Option<NetworkAddress> {
    // rtnetlink(7): on point-to-point links IFA_ADDRESS is the peer, IFA_LOCAL the own address.
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let address = local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })?;
    Some(NetworkAddress {
        family: if message.header.family == AddressFamily::Inet {
            "inet"
        } else {
            "inet6"
        }
        .into(),
        address: address.to_string(),
        netmask: message.header.prefix_len.to_string(),
        scope: match message.header.scope {
            AddressScope::Host => "local",
            AddressScope::Link => "link",
            _ => "global",
        }
        .into(),
    })
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
