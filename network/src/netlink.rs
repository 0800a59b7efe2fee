//! The kernel's links, addresses and routes (rtnetlink), in the few words that this crate needs.
//!
//! A [`Netlink`] is one socket. It belongs to the network namespace of the thread that opened it, and its
//! answers are read by a task of the current runtime that ends with it.

use std::net::IpAddr;

use futures::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope};
use rtnetlink::packet_route::link::{
    BridgeStpState, InfoBridge, InfoData, InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};

use crate::state::BridgeState;
use crate::{Counters, Error, Result};

/// A socket to the kernel.
#[derive(Debug, Clone)]
pub(crate) struct Netlink {
    pub(crate) handle: Handle,
}

/// A link as the kernel shows it.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) alias: String,
    pub(crate) kind: Option<InfoKind>,
    pub(crate) hwaddr: Vec<u8>,
    pub(crate) mtu: u32,
    pub(crate) flags: LinkFlags,
    pub(crate) controller: Option<u32>,
    pub(crate) has_device: bool,
    pub(crate) counters: Counters,
    pub(crate) bridge: Option<BridgeState>,
}

/// An address of a link.
#[derive(Debug, Clone)]
pub(crate) struct LinkAddress {
    pub(crate) index: u32,
    pub(crate) net: IpNet,
    pub(crate) scope: AddressScope,
    message: AddressMessage,
}

/// A route that is not a default route.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) net: IpNet,
    pub(crate) index: Option<u32>,
}

impl Netlink {
    /// Opens a socket in the namespace of this thread. Must be called inside a tokio runtime.
    pub(crate) fn open() -> Result<Self> {
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(Error::system("open a netlink socket"))?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// All links.
    pub(crate) async fn links(&self) -> Result<Vec<Link>> {
        let messages: Vec<LinkMessage> = self
            .handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(Error::netlink("list links"))?;
        Ok(messages.into_iter().filter_map(read_link).collect())
    }

    /// The link of a name.
    pub(crate) async fn link(&self, name: &str) -> Result<Option<Link>> {
        let answer = self
            .handle
            .link()
            .get()
            .match_name(name)
            .execute()
            .try_next()
            .await;
        match answer {
            // The kernel also finds links by alternative names; those are other links to us.
            Ok(message) => Ok(message.and_then(read_link).filter(|link| link.name == name)),
            Err(error) if errno(&error) == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(Error::netlink(format!("look up link {name}"))(error)),
        }
    }

    /// The link of a name, which has to be there.
    pub(crate) async fn expect_link(&self, name: &str) -> Result<Link> {
        self.link(name).await?.ok_or_else(|| Error::NotFound {
            name: name.to_owned(),
        })
    }

    /// Makes a link; the message says everything.
    pub(crate) async fn add(&self, what: &str, message: LinkMessage) -> Result<()> {
        self.handle
            .link()
            .add(message)
            .execute()
            .await
            .map_err(Error::netlink(what))
    }

    /// Changes a link; the message has its index and what changes.
    pub(crate) async fn change(&self, what: &str, message: LinkMessage) -> Result<()> {
        self.handle
            .link()
            .set(message)
            .execute()
            .await
            .map_err(Error::netlink(what))
    }

    /// Changes how a link is plugged in; the message has its index and what changes.
    pub(crate) async fn change_port(&self, what: &str, message: LinkMessage) -> Result<()> {
        self.handle
            .link()
            .set_port(message)
            .execute()
            .await
            .map_err(Error::netlink(what))
    }

    /// Removes a link; one that is gone already is no error.
    pub(crate) async fn delete(&self, link: &Link) -> Result<()> {
        match self.handle.link().del(link.index).execute().await {
            Err(error) if errno(&error) == Some(libc::ENODEV) => Ok(()),
            answer => answer.map_err(Error::netlink(format!("remove link {}", link.name))),
        }
    }

    /// Switches a link on.
    pub(crate) async fn up(&self, link: &Link) -> Result<()> {
        let message = LinkUnspec::new_with_index(link.index).up().build();
        self.change(&format!("switch link {} on", link.name), message)
            .await
    }

    /// All addresses of all links.
    pub(crate) async fn addresses(&self) -> Result<Vec<LinkAddress>> {
        let messages: Vec<AddressMessage> = self
            .handle
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(Error::netlink("list addresses"))?;
        Ok(messages.into_iter().filter_map(read_address).collect())
    }

    /// Gives a link an address, or keeps it. IPv6 addresses are usable at once: nobody else has them, since
    /// Virga gives them out, and a bridge without ports would never finish duplicate address detection.
    pub(crate) async fn add_address(&self, link: &Link, net: IpNet) -> Result<()> {
        let mut request = self
            .handle
            .address()
            .add(link.index, net.addr(), net.prefix_len())
            .replace();
        if net.addr().is_ipv6() {
            request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        }
        request.execute().await.map_err(Error::netlink(format!(
            "give address {net} to link {}",
            link.name
        )))
    }

    /// Takes an address away; one that is gone already is no error.
    pub(crate) async fn delete_address(&self, address: &LinkAddress) -> Result<()> {
        match self.handle.address().del(address.message.clone()).execute().await {
            Err(error) if errno(&error) == Some(libc::EADDRNOTAVAIL) => Ok(()),
            answer => answer.map_err(Error::netlink(format!("take address {} away", address.net))),
        }
    }

    /// Sets the default route of the gateway's family.
    pub(crate) async fn set_gateway(&self, link: &Link, gateway: IpAddr) -> Result<()> {
        let message = match gateway {
            IpAddr::V4(gateway) => RouteMessageBuilder::<std::net::Ipv4Addr>::new()
                .output_interface(link.index)
                .gateway(gateway)
                .build(),
            IpAddr::V6(gateway) => RouteMessageBuilder::<std::net::Ipv6Addr>::new()
                .output_interface(link.index)
                .gateway(gateway)
                .build(),
        };
        self.handle
            .route()
            .add(message)
            .replace()
            .execute()
            .await
            .map_err(Error::netlink(format!(
                "route by {gateway} on link {}",
                link.name
            )))
    }

    /// All routes of all tables to somewhere in particular.
    pub(crate) async fn routes(&self) -> Result<Vec<Route>> {
        let mut routes = Vec::new();
        let families = [
            RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(),
            RouteMessageBuilder::<std::net::Ipv6Addr>::new().build(),
        ];
        for family in families {
            let messages: Vec<RouteMessage> = self
                .handle
                .route()
                .get(family)
                .execute()
                .try_collect()
                .await
                .map_err(Error::netlink("list routes"))?;
            routes.extend(messages.iter().filter_map(read_route));
        }
        Ok(routes)
    }
}

/// The error number in the kernel's answer.
pub(crate) fn errno(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.code.map(|code| -code.get()),
        _ => None,
    }
}

fn read_link(message: LinkMessage) -> Option<Link> {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        alias: String::new(),
        kind: None,
        hwaddr: Vec::new(),
        mtu: 0,
        flags: message.header.flags,
        controller: None,
        has_device: false,
        counters: Counters::default(),
        bridge: None,
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::IfAlias(alias) => link.alias = alias,
            LinkAttribute::Address(address) => link.hwaddr = address,
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Controller(index) => link.controller = Some(index).filter(|index| *index != 0),
            LinkAttribute::ParentDevName(_) => link.has_device = true,
            LinkAttribute::Stats64(stats) => {
                link.counters = Counters {
                    bytes_received: stats.rx_bytes,
                    bytes_sent: stats.tx_bytes,
                    packets_received: stats.rx_packets,
                    packets_sent: stats.tx_packets,
                };
            }
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    match info {
                        LinkInfo::Kind(kind) => link.kind = Some(kind),
                        LinkInfo::Data(InfoData::Bridge(facts)) => link.bridge = Some(read_bridge(&facts)),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some(link)
}

fn read_bridge(facts: &[InfoBridge]) -> BridgeState {
    let mut bridge = BridgeState {
        id: String::new(),
        stp: false,
        forward_delay: 0,
        vlan_default: 0,
        vlan_filtering: false,
        upper_devices: Vec::new(),
    };
    for fact in facts {
        match fact {
            InfoBridge::BridgeId(id) => {
                let [a, b, c, d, e, f] = id.address;
                bridge.id = format!("{:04x}.{a:02x}{b:02x}{c:02x}{d:02x}{e:02x}{f:02x}", id.priority);
            }
            InfoBridge::StpState(state) => bridge.stp = *state != BridgeStpState::Disabled,
            InfoBridge::ForwardDelay(delay) => bridge.forward_delay = u64::from(*delay),
            InfoBridge::VlanDefaultPvid(vlan) => bridge.vlan_default = u64::from(*vlan),
            InfoBridge::VlanFiltering(on) => bridge.vlan_filtering = *on,
            _ => {}
        }
    }
    // The kernel has a default VLAN even where no VLAN means anything.
    if !bridge.vlan_filtering {
        bridge.vlan_default = 0;
    }
    bridge
}

fn read_address(message: AddressMessage) -> Option<LinkAddress> {
    let mut local = None;
    let mut address = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => address = Some(*ip),
            _ => {}
        }
    }
    // On point-to-point links `Address` is the other side.
    let net = IpNet::new(local.or(address)?, message.header.prefix_len).ok()?;
    Some(LinkAddress {
        index: message.header.index,
        net,
        scope: message.header.scope,
        message,
    })
}

fn read_route(message: &RouteMessage) -> Option<Route> {
    let length = message.header.destination_prefix_length;
    // Local and broadcast routes repeat the addresses; multicast concerns no subnet; length 0 is a default
    // route.
    let told_by_addresses = matches!(
        message.header.kind,
        RouteType::Local | RouteType::Broadcast | RouteType::Multicast | RouteType::Anycast
    );
    if length == 0 || told_by_addresses {
        return None;
    }
    let mut destination = None;
    let mut index = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(ip)) => destination = Some(IpAddr::V4(*ip)),
            RouteAttribute::Destination(RouteAddress::Inet6(ip)) => destination = Some(IpAddr::V6(*ip)),
            RouteAttribute::Oif(oif) => index = Some(*oif),
            _ => {}
        }
    }
    let destination = destination?;
    let is_special = match (message.header.address_family, destination) {
        (AddressFamily::Inet6, IpAddr::V6(ip)) => ip.is_multicast() || ip.is_unicast_link_local(),
        _ => false,
    };
    (!is_special).then_some(())?;
    Some(Route {
        net: IpNet::new(destination, length).ok()?.trunc(),
        index,
    })
}
