//! A container's network interfaces, read from outside without running anything inside.
//!
//! A thread of its own enters the network namespace, reads what is there by system calls, and ends: so no other thread is
//! ever in a foreign namespace, and no process of the container is trusted with the answer.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::IpAddr;

use api::{InstanceStateNetwork, InstanceStateNetworkAddress, InstanceStateNetworkCounters};
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;
use nix::sched::{CloneFlags, setns};

/// All interfaces in the network namespace of a process; empty when it has just ended.
pub(super) fn interfaces(pid: i32) -> BTreeMap<String, InstanceStateNetwork> {
    let Ok(namespace) = File::open(format!("/proc/{pid}/ns/net")) else {
        return BTreeMap::new();
    };
    let reader = std::thread::Builder::new()
        .name("netns-reader".to_owned())
        .stack_size(256 * 1024)
        .spawn(move || {
            setns(&namespace, CloneFlags::CLONE_NEWNET).ok()?;
            read().ok()
        });
    reader
        .ok()
        .and_then(|thread| thread.join().ok().flatten())
        .unwrap_or_default()
}

fn read() -> nix::Result<BTreeMap<String, InstanceStateNetwork>> {
    let mut found: BTreeMap<String, InstanceStateNetwork> = BTreeMap::new();
    // `/proc/thread-self/net` is that of the thread that looks.
    let counters = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
    for entry in getifaddrs()? {
        let name = entry.interface_name.clone();
        let interface = found
            .entry(name.clone())
            .or_insert_with(|| describe(&entry, &counters));
        let Some(address) = &entry.address else { continue };
        if let Some(link) = address.as_link_addr() {
            let bytes = link.addr().unwrap_or_default();
            if bytes != [0; 6] {
                interface.hwaddr = bytes.map(|byte| format!("{byte:02x}")).join(":");
            }
        } else if let Some(address) = ip_address(&entry) {
            interface.addresses.push(address);
        }
    }
    Ok(found)
}

fn describe(entry: &InterfaceAddress, counters: &str) -> InstanceStateNetwork {
    let flags = entry.flags;
    let kind = if flags.contains(InterfaceFlags::IFF_LOOPBACK) {
        "loopback"
    } else if flags.contains(InterfaceFlags::IFF_POINTOPOINT) {
        "point-to-point"
    } else if flags.contains(InterfaceFlags::IFF_BROADCAST) {
        "broadcast"
    } else {
        "unknown"
    };
    InstanceStateNetwork {
        addresses: Vec::new(),
        counters: find_counters(counters, &entry.interface_name),
        hwaddr: String::new(),
        host_name: String::new(),
        mtu: mtu(&entry.interface_name).unwrap_or_default(),
        state: if flags.contains(InterfaceFlags::IFF_UP) {
            "up"
        } else {
            "down"
        }
        .to_owned(),
        kind: kind.to_owned(),
    }
}

fn ip_address(entry: &InterfaceAddress) -> Option<InstanceStateNetworkAddress> {
    let address = ip(entry.address.as_ref()?)?;
    let ones = match entry.netmask.as_ref().and_then(ip)? {
        IpAddr::V4(mask) => u32::from(mask).count_ones(),
        IpAddr::V6(mask) => u128::from(mask).count_ones(),
    };
    let scope = match address {
        _ if address.is_loopback() => "local",
        IpAddr::V4(v4) if v4.is_link_local() => "link",
        IpAddr::V6(v6) if v6.is_unicast_link_local() => "link",
        _ => "global",
    };
    Some(InstanceStateNetworkAddress {
        family: if address.is_ipv4() { "inet" } else { "inet6" }.to_owned(),
        address: address.to_string(),
        netmask: ones.to_string(),
        scope: scope.to_owned(),
    })
}

fn ip(address: &nix::sys::socket::SockaddrStorage) -> Option<IpAddr> {
    address
        .as_sockaddr_in()
        .map(|v4| IpAddr::V4(v4.ip()))
        .or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

/// A line of `net/dev`: eight numbers received, eight sent (proc(5)).
fn find_counters(text: &str, name: &str) -> InstanceStateNetworkCounters {
    let line = text
        .lines()
        .find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix(':'));
    let numbers: Vec<i64> = line
        .unwrap_or_default()
        .split_whitespace()
        .map(|word| word.parse().unwrap_or_default())
        .collect();
    let at = |index: usize| numbers.get(index).copied().unwrap_or_default();
    InstanceStateNetworkCounters {
        bytes_received: at(0),
        packets_received: at(1),
        errors_received: at(2),
        packets_dropped_inbound: at(3),
        bytes_sent: at(8),
        packets_sent: at(9),
        errors_sent: at(10),
        packets_dropped_outbound: at(11),
    }
}

/// The MTU of an interface of the thread's namespace (SIOCGIFMTU, netdevice(7)).
fn mtu(name: &str) -> Option<i64> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    // SAFETY: all-zero bytes are a valid ifreq: it is made of integers and arrays of them.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let room = request.ifr_name.len() - 1;
    for (slot, byte) in request.ifr_name.iter_mut().take(room).zip(name.bytes()) {
        *slot = byte as libc::c_char;
    }
    // SAFETY: SIOCGIFMTU reads the name of one ifreq, which lives across the call, and writes its MTU.
    let answer = unsafe {
        libc::ioctl(
            std::os::fd::AsRawFd::as_raw_fd(&socket),
            libc::SIOCGIFMTU,
            &mut request,
        )
    };
    // SAFETY: the call has succeeded, so the MTU is what the union holds.
    (answer == 0).then(|| i64::from(unsafe { request.ifr_ifru.ifru_mtu }))
}

#[cfg(test)]
#[path = "netns_tests.rs"]
mod tests;
