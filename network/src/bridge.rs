//! The bridge of a network: made, recognised again, brought into shape, removed.
//!
//! A bridge is ours when it carries our alias. Making a link and giving it an alias are two requests, so a
//! bridge without an alias is also ours if it has the hardware address that only we would have given it: that
//! one is set in the same request that makes it.

use std::collections::HashSet;

use ipnet::IpNet;
use rtnetlink::packet_route::address::AddressScope;
use rtnetlink::packet_route::link::{InfoKind, LinkFlags};
use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec};

use crate::manager::{Marker, Step};
use crate::netlink::{Link, Netlink};
use crate::{BridgeConfig, Error, HwAddr, Result, sysctl};

/// The link of that name if it is our bridge; an error if it is something else.
pub(crate) async fn find(netlink: &Netlink, marker: &Marker, name: &str) -> Result<Option<Link>> {
    let Some(link) = netlink.link(name).await? else {
        return Ok(None);
    };
    if is_ours(marker, &link) {
        return Ok(Some(link));
    }
    Err(Error::NameTaken {
        name: name.to_owned(),
        alias: link.alias,
    })
}

/// Whether a link is a bridge that this daemon made.
pub(crate) fn is_ours(marker: &Marker, link: &Link) -> bool {
    let is_bridge = link.kind == Some(InfoKind::Bridge);
    let is_unfinished = link.alias.is_empty() && link.hwaddr == marker.hwaddr(&link.name).bytes();
    is_bridge && (link.alias == marker.alias() || is_unfinished)
}

/// Makes the bridge if it is missing, and gives it its properties and addresses. Returns it.
pub(crate) async fn ensure(
    netlink: &Netlink,
    marker: &Marker,
    config: &BridgeConfig,
    step: &Step,
) -> Result<Link> {
    let name = &config.name;
    let link = match find(netlink, marker, name).await? {
        Some(link) => link,
        None => {
            let message = LinkMessageBuilder::<LinkBridge>::new(name)
                .address(marker.hwaddr(name).bytes().to_vec())
                .build();
            netlink.add(&format!("make bridge {name}"), message).await?;
            step.done("bridge made")?;
            netlink.expect_link(name).await?
        }
    };
    let mut change = LinkUnspec::new_with_index(link.index);
    let mut is_changed = false;
    if link.alias != marker.alias() {
        change = change.alias(marker.alias());
        is_changed = true;
    }
    if link.mtu != config.mtu {
        change = change.mtu(config.mtu);
        is_changed = true;
    }
    if is_changed {
        netlink
            .change(
                &format!("set alias and MTU {} of bridge {name}", config.mtu),
                change.build(),
            )
            .await?;
    }
    step.done("bridge named")?;
    let hwaddr: HwAddr = config.hwaddr.unwrap_or_else(|| marker.hwaddr(name));
    if link.hwaddr != hwaddr.bytes() {
        let message = LinkUnspec::new_with_index(link.index)
            .address(hwaddr.bytes().to_vec())
            .build();
        netlink
            .change(
                &format!("set hardware address {hwaddr} of bridge {name}"),
                message,
            )
            .await?;
    }
    // The bridge is a router: it does not configure itself from what instances advertise.
    sysctl::write_link("ipv6", name, "accept_ra", "0")?;
    sysctl::write_link("ipv6", name, "autoconf", "0")?;
    sysctl::write_link(
        "ipv6",
        name,
        "disable_ipv6",
        if config.ipv6.is_some() { "0" } else { "1" },
    )?;
    // Without ports a bridge has no carrier, and addresses would stay tentative until the first instance
    // starts.
    sysctl::write_link("ipv6", name, "accept_dad", "0")?;
    if !link.flags.contains(LinkFlags::Up) {
        netlink.up(&link).await?;
    }
    step.done("bridge up")?;
    set_addresses(netlink, &link, config).await?;
    step.done("bridge addressed")?;
    Ok(link)
}

/// Removes the bridge if it is there and ours.
pub(crate) async fn remove(netlink: &Netlink, marker: &Marker, name: &str) -> Result<bool> {
    match netlink.link(name).await? {
        Some(link) if is_ours(marker, &link) => {
            netlink.delete(&link).await?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

async fn set_addresses(netlink: &Netlink, link: &Link, config: &BridgeConfig) -> Result<()> {
    let wanted: HashSet<IpNet> = config
        .ipv4
        .map(IpNet::V4)
        .into_iter()
        .chain(config.ipv6.map(IpNet::V6))
        .collect();
    let mut present = HashSet::new();
    for address in netlink.addresses().await? {
        if address.index != link.index || address.scope != AddressScope::Universe {
            continue;
        }
        if wanted.contains(&address.net) {
            present.insert(address.net);
        } else {
            netlink.delete_address(&address).await?;
        }
    }
    for net in wanted.difference(&present) {
        netlink.add_address(link, *net).await?;
    }
    Ok(())
}
