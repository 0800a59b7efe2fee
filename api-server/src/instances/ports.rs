//! Network cards of instances: choosing names and addresses, plugging in, unplugging.

use network::{Choice, HwAddr, Preset, Reservation, TapSpec, VethSpec};

use super::devices::{Nic, NicParent};
use super::plan::Port;
use super::record::InstanceRecord;
use crate::projects::{self, Feature};
use crate::store::{self, keys};
use crate::{ApiError, Daemon};

/// A name for the host's end of a card, as Incus makes them: `veth1c02d43c`.
fn new_host_name(record: &InstanceRecord) -> String {
    let kind = if record.is_vm() { "tap" } else { "veth" };
    format!("{kind}{:08x}", rand::random::<u32>())
}

/// The key of a card's reservation: unique on its network.
fn reservation_key(record: &InstanceRecord, device: &str) -> String {
    format!("{}.{device}", record.disk_name())
}

/// The bridge of a card; a network must exist and be a bridge.
pub(super) fn bridge(daemon: &Daemon, project: &str, nic: &Nic) -> Result<String, ApiError> {
    match &nic.parent {
        NicParent::Bridge(bridge) => {
            network::check_interface_name(bridge).map_err(ApiError::from)?;
            Ok(bridge.clone())
        }
        NicParent::Network(name) => {
            let project = projects::effective(&*daemon.store, project, Feature::Networks)?;
            let refuse = |error: ApiError| {
                error.context(format!(
                    "Invalid devices: Device validation failed for {:?}",
                    nic.device
                ))
            };
            let Some((found, _)) =
                store::get_as::<api::Network>(&*daemon.store, &keys::network(&project, name))?
            else {
                let error = ApiError::not_found("Network")
                    .context(format!("Error loading network config for {name:?}"));
                return Err(refuse(error));
            };
            if found.kind != "bridge" {
                let message = format!(
                    "Specified network type {:?} cannot be used by a bridged NIC",
                    found.kind
                );
                return Err(refuse(ApiError::bad_request(message)));
            }
            Ok(name.clone())
        }
    }
}

/// The hardware address of a card: the device's, the one it had before, or a new one.
pub(super) fn hwaddr(record: &InstanceRecord, nic: &Nic) -> HwAddr {
    nic.hwaddr
        .or_else(|| {
            record
                .volatile(&format!("{}.hwaddr", nic.device))
                .and_then(|text| text.parse().ok())
        })
        .unwrap_or_else(HwAddr::random)
}

/// Decides everything about the cards of an instance; nothing is made yet.
pub(super) fn plan(daemon: &Daemon, record: &InstanceRecord, nics: &[Nic]) -> Result<Vec<Port>, ApiError> {
    nics.iter()
        .map(|nic| {
            Ok(Port {
                bridge: bridge(daemon, &record.project, nic)?,
                host_name: nic.host_name.clone().unwrap_or_else(|| new_host_name(record)),
                hwaddr: hwaddr(record, nic),
                nic: nic.clone(),
                reserved: None,
                tap: None,
            })
        })
        .collect()
}

/// Writes into the record which links there are going to be.
pub(super) fn note(record: &mut InstanceRecord, ports: &[Port]) {
    for port in ports {
        let device = &port.nic.device;
        record.set_volatile(&format!("{device}.host_name"), Some(port.host_name.clone()));
        if port.nic.hwaddr.is_none() {
            record.set_volatile(&format!("{device}.hwaddr"), Some(port.hwaddr.to_string()));
        }
    }
}

/// The host ends that a record tells of, and their devices.
pub(super) fn noted(record: &InstanceRecord) -> Vec<(String, String)> {
    record
        .config
        .iter()
        .filter_map(|(key, value)| {
            let device = key.strip_prefix("volatile.")?.strip_suffix(".host_name")?;
            Some((device.to_owned(), value.clone()))
        })
        .collect()
}

/// Forgets the host ends in the record.
pub(super) fn forget(record: &mut InstanceRecord) {
    for (device, _) in noted(record) {
        record.set_volatile(&format!("{device}.host_name"), None);
    }
}

/// Reserves addresses on the networks that are ours. Asking again gives the same ones.
pub(super) async fn reserve(
    daemon: &Daemon,
    record: &InstanceRecord,
    ports: &mut [Port],
) -> Result<(), ApiError> {
    for port in ports {
        if let NicParent::Network(network) = &port.nic.parent {
            let wanted = Reservation {
                key: reservation_key(record, &port.nic.device),
                hostname: record.name.clone(),
                hwaddr: port.hwaddr,
                ipv4: port.nic.ipv4.map_or(Choice::Pick, Choice::Fixed),
                ipv6: port.nic.ipv6.map_or(Choice::Pick, Choice::Fixed),
            };
            let reserved = daemon.networks.reserve(network, &wanted).await.map_err(|error| {
                ApiError::from(error).context(format!(
                    "Failed start validation for device {:?}",
                    port.nic.device
                ))
            })?;
            port.reserved = Some(reserved);
        }
    }
    Ok(())
}

/// Gives the addresses of an instance back. Its cards are told by its hardware addresses, which stay in the record as long as
/// it exists, and by its devices.
pub(super) async fn release(daemon: &Daemon, record: &InstanceRecord, nics: &[Nic]) -> Result<(), ApiError> {
    for nic in nics {
        if let NicParent::Network(network) = &nic.parent {
            match daemon
                .networks
                .release(network, &reservation_key(record, &nic.device))
                .await
            {
                // A network that is gone has no reservations.
                Ok(()) | Err(network::Error::NotFound { .. }) => {}
                Err(error) => {
                    tracing::warn!(network, error = %crate::error::chain(&error), "reservation stays behind")
                }
            }
        }
    }
    Ok(())
}

/// Makes the taps of a virtual machine.
pub(super) async fn open_taps(daemon: &Daemon, ports: &mut [Port]) -> Result<(), ApiError> {
    for port in ports {
        let spec = TapSpec {
            host_name: port.host_name.clone(),
            bridge: port.bridge.clone(),
            mtu: port.nic.mtu,
            multi_queue: false,
            isolated: port.nic.isolated,
        };
        let tap = daemon
            .networks
            .add_tap(&spec)
            .await
            .map_err(|error| device_failed(port, error))?;
        port.tap = Some(tap);
    }
    Ok(())
}

/// Moves veth pairs into a container.
pub(super) async fn plug_veths(daemon: &Daemon, ports: &[Port], pid: i32) -> Result<(), ApiError> {
    for port in ports {
        let addresses = port.addresses();
        let preset = port.reserved.as_ref().map(|reserved| Preset {
            addresses: addresses
                .iter()
                .filter_map(|(address, prefix)| ipnet::IpNet::new(*address, *prefix).ok())
                .collect(),
            gateway4: reserved.gateway4.filter(|_| reserved.ipv4.is_some()),
            gateway6: reserved.gateway6.filter(|_| reserved.ipv6.is_some()),
        });
        let spec = VethSpec {
            host_name: port.host_name.clone(),
            bridge: port.bridge.clone(),
            guest_name: port.nic.name.clone(),
            hwaddr: port.hwaddr,
            mtu: port.nic.mtu,
            target_pid: u32::try_from(pid).unwrap_or_default(),
            preset,
            isolated: port.nic.isolated,
        };
        daemon
            .networks
            .add_veth(&spec)
            .await
            .map_err(|error| device_failed(port, error))?;
    }
    Ok(())
}

/// Removes the links that a record tells of.
pub(super) async fn unplug(daemon: &Daemon, record: &InstanceRecord) -> Result<(), ApiError> {
    for (_, host_name) in noted(record) {
        daemon
            .networks
            .remove_link(&host_name)
            .await
            .map_err(ApiError::from)?;
    }
    Ok(())
}

fn device_failed(port: &Port, error: network::Error) -> ApiError {
    ApiError::from(error).context(format!("Failed to start device {:?}", port.nic.device))
}
