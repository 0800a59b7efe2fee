//! Veth pairs: a container's network card and its other end on the bridge.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use ipnet::IpNet;
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth, LinkMessage};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth};

use crate::netlink::Netlink;
use crate::{HwAddr, Result, netns};

/// A veth pair to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VethSpec {
    /// The name of the end on the host.
    pub host_name: String,
    /// The bridge to plug it into.
    pub bridge: String,
    /// The name of the end in the container.
    pub guest_name: String,
    /// The hardware address of the end in the container.
    pub hwaddr: HwAddr,
    /// Largest packet; the bridge's when `None`.
    pub mtu: Option<u32>,
    /// A process in the network namespace that gets the other end.
    pub target_pid: u32,
    /// Addresses and routes to set inside; `None` leaves that to the container's own DHCP client.
    pub preset: Option<Preset>,
    /// Whether it may talk to the bridge only, not to other isolated ports (`security.port_isolation`).
    pub isolated: bool,
}

/// What is configured inside the container before it starts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preset {
    /// Addresses with their prefix lengths.
    pub addresses: Vec<IpNet>,
    /// Default router for IPv4.
    pub gateway4: Option<Ipv4Addr>,
    /// Default router for IPv6.
    pub gateway6: Option<Ipv6Addr>,
}

/// The one message that makes both ends, the guest's with its final name in its final namespace: there is no
/// moment in which a half-configured link lies about on the host.
pub(crate) fn creation(spec: &VethSpec, mtu: u32, namespace: &OwnedFd) -> LinkMessage {
    let peer = LinkMessageBuilder::<LinkUnspec>::new()
        .name(spec.guest_name.clone())
        .address(spec.hwaddr.bytes().to_vec())
        .mtu(mtu)
        .setns_by_fd(namespace.as_raw_fd())
        .build();
    LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
        .name(spec.host_name.clone())
        .mtu(mtu)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .build()
}

/// Switches the guest's end (and `lo`) on and gives it what was preset.
pub(crate) async fn configure_guest(spec: &VethSpec, namespace: OwnedFd) -> Result<()> {
    let (name, preset) = (spec.guest_name.clone(), spec.preset.clone().unwrap_or_default());
    netns::inside(namespace, async move |netlink: Netlink| {
        if let Some(loopback) = netlink.link("lo").await? {
            netlink.up(&loopback).await?;
        }
        let link = netlink.expect_link(&name).await?;
        netlink.up(&link).await?;
        for address in preset.addresses {
            netlink.add_address(&link, address).await?;
        }
        let gateways = [preset.gateway4.map(IpAddr::V4), preset.gateway6.map(IpAddr::V6)];
        for gateway in gateways.into_iter().flatten() {
            netlink.set_gateway(&link, gateway).await?;
        }
        Ok(())
    })
    .await
}
