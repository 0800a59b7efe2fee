//! Ports: the host ends of taps and veth pairs on their bridge.

use std::os::fd::OwnedFd;

use rtnetlink::packet_route::link::InfoKind;
use rtnetlink::{LinkBridgePort, LinkUnspec};

use crate::manager::Marker;
use crate::netlink::{Link, Netlink};
use crate::{Error, Result, TapSpec, VethSpec, check_interface_name, netns, sysctl, tap, veth};

/// Whether a link is a port that this daemon made.
pub(crate) fn is_ours(marker: &Marker, link: &Link) -> bool {
    matches!(link.kind, Some(InfoKind::Tun | InfoKind::Veth)) && link.alias == marker.alias()
}

/// Makes a tap and plugs it in.
pub(crate) async fn add_tap(netlink: &Netlink, marker: &Marker, spec: &TapSpec) -> Result<OwnedFd> {
    check_interface_name(&spec.host_name)?;
    let bridge = netlink.expect_link(&spec.bridge).await?;
    if let Some(link) = netlink.link(&spec.host_name).await? {
        return Err(Error::NameTaken {
            name: link.name,
            alias: link.alias,
        });
    }
    // Dropped on failure, and the tap with it.
    let descriptor = tap::open(spec)?;
    let mtu = spec.mtu.unwrap_or(bridge.mtu);
    plug(netlink, marker, &spec.host_name, &bridge, mtu, spec.isolated).await?;
    Ok(descriptor)
}

/// Makes a veth pair, plugs one end in and configures the other.
pub(crate) async fn add_veth(netlink: &Netlink, marker: &Marker, spec: &VethSpec) -> Result<()> {
    check_interface_name(&spec.host_name)?;
    check_interface_name(&spec.guest_name)?;
    let bridge = netlink.expect_link(&spec.bridge).await?;
    if let Some(link) = netlink.link(&spec.host_name).await? {
        return Err(Error::NameTaken {
            name: link.name,
            alias: link.alias,
        });
    }
    let namespace = netns::of_process(spec.target_pid)?;
    let mtu = spec.mtu.unwrap_or(bridge.mtu);
    let what = format!(
        "make veth pair {} and {} ({})",
        spec.host_name, spec.guest_name, spec.hwaddr
    );
    netlink.add(&what, veth::creation(spec, mtu, &namespace)).await?;
    let finish = async {
        plug(netlink, marker, &spec.host_name, &bridge, mtu, spec.isolated).await?;
        veth::configure_guest(spec, namespace).await
    };
    let outcome = finish.await;
    if outcome.is_err()
        && let Ok(Some(link)) = netlink.link(&spec.host_name).await
    {
        // The first error is the one to tell.
        let _ = netlink.delete(&link).await;
    }
    outcome
}

/// Removes a port. One that is not there, or that is not ours, is left alone; the latter is an error.
pub(crate) async fn remove(netlink: &Netlink, marker: &Marker, name: &str) -> Result<()> {
    check_interface_name(name)?;
    let Some(link) = netlink.link(name).await? else {
        return Ok(());
    };
    // A port that lost its maker between being made and being marked has no alias yet.
    let is_unfinished = matches!(link.kind, Some(InfoKind::Tun | InfoKind::Veth)) && link.alias.is_empty();
    if !is_ours(marker, &link) && !is_unfinished {
        return Err(Error::NameTaken {
            name: link.name,
            alias: link.alias,
        });
    }
    netlink.delete(&link).await
}

async fn plug(
    netlink: &Netlink,
    marker: &Marker,
    name: &str,
    bridge: &Link,
    mtu: u32,
    isolated: bool,
) -> Result<()> {
    sysctl::disable_ipv6(name)?;
    let link = netlink.expect_link(name).await?;
    let message = LinkUnspec::new_with_index(link.index)
        .alias(marker.alias())
        .mtu(mtu)
        .controller(bridge.index)
        .up()
        .build();
    netlink
        .change(
            &format!("plug {name} into bridge {} with MTU {mtu}", bridge.name),
            message,
        )
        .await?;
    if isolated {
        let message = LinkBridgePort::new(link.index).isolated(true).build();
        netlink
            .change_port(&format!("isolate port {name}"), message)
            .await?;
    }
    Ok(())
}
