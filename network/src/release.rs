//! Leases of instances that are gone: given back to dnsmasq in the instance's place, so that its address and
//! its name are free at once rather than when the lease runs out.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsFd;

use nix::sys::socket::{setsockopt, sockopt};

use crate::leases::Given;
use crate::{BridgeConfig, HwAddr};

/// Where DHCP servers listen (RFC 2131 §4.1).
const SERVER_PORT: u16 = 67;
/// Where the options begin: the fixed part of a message and the magic number (RFC 2131 §2 and §3).
const OPTIONS_START: usize = 240;

/// Gives back the IPv4 leases of a station. Best effort: a lease that stays runs out by itself.
pub(crate) fn give_back(config: &BridgeConfig, given: &[Given], hwaddr: HwAddr) {
    let Some(server) = config.ipv4.filter(|_| config.ipv4_dhcp).map(|net| net.addr()) else {
        return;
    };
    for lease in given.iter().filter(|lease| lease.hwaddr == Some(hwaddr)) {
        let IpAddr::V4(address) = lease.address else {
            continue;
        };
        let message = release(server, address, hwaddr, &lease.client);
        if let Err(error) = send(&config.name, server, &message) {
            tracing::warn!(network = config.name, %address, %error, "cannot give back a lease");
        }
    }
}

fn send(link: &str, server: Ipv4Addr, message: &[u8]) -> io::Result<()> {
    let socket = UdpSocket::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0))?;
    // The packet never leaves the host, but has to seem to come from the link: dnsmasq asks where it came in.
    setsockopt(&socket.as_fd(), sockopt::BindToDevice, &link.into())?;
    socket.send_to(message, SocketAddrV4::new(server, SERVER_PORT))?;
    Ok(())
}

/// A DHCPRELEASE message (RFC 2131 §4.4.6, table 5).
fn release(server: Ipv4Addr, address: Ipv4Addr, hwaddr: HwAddr, client: &[u8]) -> Vec<u8> {
    let mut message = vec![0; OPTIONS_START];
    // A request, by Ethernet, whose addresses have six bytes.
    message[..3].copy_from_slice(&[1, 1, 6]);
    message[4..8].copy_from_slice(&rand::random::<[u8; 4]>());
    message[12..16].copy_from_slice(&address.octets());
    message[28..34].copy_from_slice(&hwaddr.bytes());
    message[236..240].copy_from_slice(&[99, 130, 83, 99]);
    // Options (RFC 2132): 53 message type, here 7; 54 server identifier; 61 client identifier; 255 end.
    message.extend([53, 1, 7, 54, 4]);
    message.extend(server.octets());
    if let Ok(length @ 2..) = u8::try_from(client.len()) {
        message.extend([61, length]);
        message.extend(client);
    }
    message.push(255);
    message
}
