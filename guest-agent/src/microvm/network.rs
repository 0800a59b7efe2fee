//! Interfaces, by rtnetlink, as the configuration has them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags};
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::{Error, Handle, LinkMessageBuilder, LinkUnspec, RouteMessageBuilder};

use super::say;
use crate::config::{Cidr, NicConfig};

/// How long an interface may take to appear.
const LINK_TIMEOUT: Duration = Duration::from_secs(3);

/// Sets up the loopback interface and those of the configuration. What fails is said, and the rest goes on: a
/// machine with half a network can still be reached and mended.
pub(super) async fn configure(nics: &[NicConfig]) {
    let (connection, handle, _) = match rtnetlink::new_connection() {
        Ok(connection) => connection,
        Err(error) => return say(format_args!("no network: {error}")),
    };
    let connection = tokio::spawn(connection);
    set_up(&handle, nics).await;
    connection.abort();
}

async fn set_up(handle: &Handle, nics: &[NicConfig]) {
    const LOOPBACK: u32 = 1; // in every network namespace
    report(
        "lo",
        handle
            .link()
            .set(LinkUnspec::new_with_index(LOOPBACK).up().build())
            .execute()
            .await,
    );
    let found = find(handle, nics).await;
    for nic in nics
        .iter()
        .filter(|nic| !found.contains_key(nic.hwaddr.to_lowercase().as_str()))
    {
        say(format_args!(
            "interface {:?}: no link has hardware address {:?}",
            nic.name, nic.hwaddr
        ));
    }
    let matched: Vec<(u32, &NicConfig)> = nics
        .iter()
        .filter_map(|nic| Some((*found.get(nic.hwaddr.to_lowercase().as_str())?, nic)))
        .collect();
    // All get a temporary name first, for two may swap theirs. It also marks even a name that stays as chosen
    // by user space (/sys/class/net/*/name_assign_type), which keeps udev from "predicting" another.
    for (index, nic) in matched.iter().filter(|(_, nic)| !nic.name.is_empty()) {
        let link = LinkUnspec::new_with_index(*index)
            .down()
            .name(format!("virga{index}"));
        report(&nic.name, handle.link().set(link.build()).execute().await);
    }
    for (index, nic) in matched {
        report(&nic.name, set_up_one(handle, index, nic).await);
    }
}

fn report(name: &str, result: Result<(), Error>) {
    if let Err(error) = result {
        say(format_args!("interface {name:?}: {error}"));
    }
}

/// Indices of the links with the hardware addresses of the configuration.
async fn find(handle: &Handle, nics: &[NicConfig]) -> HashMap<String, u32> {
    let deadline = Instant::now() + LINK_TIMEOUT;
    loop {
        let links: Vec<LinkMessage> = handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .unwrap_or_default();
        let found: HashMap<String, u32> = links
            .iter()
            .filter_map(|link| Some((hwaddr(link)?, link.header.index)))
            .collect();
        let all = nics
            .iter()
            .all(|nic| found.contains_key(nic.hwaddr.to_lowercase().as_str()));
        if all || Instant::now() > deadline {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn hwaddr(link: &LinkMessage) -> Option<String> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Address(bytes) => Some(
            bytes
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<Vec<_>>()
                .join(":"),
        ),
        _ => None,
    })
}

async fn set_up_one(handle: &Handle, index: u32, nic: &NicConfig) -> Result<(), Error> {
    let mut link: LinkMessageBuilder<LinkUnspec> = LinkUnspec::new_with_index(index);
    if !nic.name.is_empty() {
        link = link.name(nic.name.clone());
    }
    if let Some(mtu) = nic.mtu {
        link = link.mtu(mtu);
    }
    handle.link().set(link.build()).execute().await?;
    handle
        .link()
        .set(LinkUnspec::new_with_index(index).up().build())
        .execute()
        .await?;
    for address in &nic.addresses {
        let mut request = handle
            .address()
            .add(index, address.address, address.prefix)
            .replace();
        if address.address.is_ipv6() {
            // The host has seen to it that nobody else has it: duplicate detection would only cost a second.
            let message = request.message_mut();
            message.header.flags |= AddressHeaderFlags::Nodad;
            message
                .attributes
                .push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        request.execute().await?;
    }
    let gateways = [nic.gateway4.map(IpAddr::V4), nic.gateway6.map(IpAddr::V6)];
    for gateway in gateways.into_iter().flatten() {
        let mut route = RouteMessageBuilder::<IpAddr>::new();
        // With the family of the gateway, no destination is the default route.
        let anywhere: IpAddr = if gateway.is_ipv4() {
            [0; 4].into()
        } else {
            std::net::Ipv6Addr::UNSPECIFIED.into()
        };
        route = route
            .destination_prefix(anywhere, 0)
            .and_then(|route| route.gateway(gateway))
            .map_err(|error| Error::InvalidNla(error.to_string()))?
            .output_interface(index);
        if !nic.addresses.iter().any(|own| contains(own, gateway)) {
            route = route.onlink(); // a routed interface with a single address
        }
        handle.route().add(route.build()).replace().execute().await?;
    }
    Ok(())
}

/// Is `address` in the network of `own`?
fn contains(own: &Cidr, address: IpAddr) -> bool {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    };
    let ((own_bits, own_len), (bits, len)) = (bits(own.address), bits(address));
    own_len == len && (own.prefix == 0 || (own_bits ^ bits) >> (128 - u32::from(own.prefix)) == 0)
}

#[cfg(test)]
#[path = "network_tests.rs"]
mod tests;
