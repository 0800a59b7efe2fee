//! Network interfaces.

use std::fs::File;
use std::io;
use std::os::fd::{OwnedFd, RawFd};

use devices::virtio::net::{self, MacAddress, Net, Tap, VhostNet};
use devices::virtio::vhost::Profile;

use super::{AttachError, Made, failed, vhost_user};
use crate::config::{NetConfig, VmConfig};
use crate::host_file;

/// Ethernet's.
const DEFAULT_MTU: u16 = 1500;

/// Makes a network device.
pub(super) fn make(vm: &VmConfig, config: &NetConfig) -> Result<Made, AttachError> {
    let (mac, mtu) = (MacAddress(config.mac.0), config.mtu.unwrap_or(DEFAULT_MTU));
    if let Some(socket) = &config.vhost_user {
        let profile = Profile::Net { mac, mtu };
        return vhost_user::make(vm, &config.id, "net", socket, profile);
    }
    let (taps, what) = match &config.tap {
        Some(name) => {
            host_file::check_open().map_err(failed("net", &config.id, format!("tap {name}")))?;
            // The check of the configuration limits the number.
            let queues = config.queue_pairs() as u16;
            (Tap::open_queues(name, queues), format!("tap {name}"))
        }
        None => {
            let numbers: Vec<RawFd> = config.taps().collect();
            let what = match numbers.as_slice() {
                [fd] => format!("descriptor {fd}"),
                _ => format!("descriptors {numbers:?}"),
            };
            let fds = numbers.into_iter().map(inherited).collect::<Result<_, _>>();
            let fds = fds.map_err(failed("net", &config.id, &what))?;
            (Tap::from_fds(fds), what)
        }
    };
    let taps = taps.map_err(failed("net", &config.id, &what))?;
    let device_config = net::Config {
        mac,
        mtu,
        limits: config.limits,
    };
    if config.vhost {
        let instances = match config.vhost_fds.as_slice() {
            [] => {
                host_file::check_open().map_err(failed("net", &config.id, "vhost-net"))?;
                VhostNet::open_instances(taps.len()).map_err(failed("net", &config.id, "vhost-net"))?
            }
            numbers => {
                let files = numbers.iter().map(|number| inherited(*number).map(File::from));
                files
                    .collect::<Result<_, _>>()
                    .map_err(failed("net", &config.id, &what))?
            }
        };
        let net = VhostNet::new(device_config, taps, instances);
        let net = net.map_err(failed("net", &config.id, &what))?;
        return Ok(Made::new(&config.id, "net", net));
    }
    let net = Net::new(device_config, taps).map_err(failed("net", &config.id, &what))?;
    Ok(Made::new(&config.id, "net", net))
}

/// Takes over an inherited descriptor.
fn inherited(fd: RawFd) -> io::Result<OwnedFd> {
    host_file::take_number(fd).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            format!("descriptor {fd} is not open; pass it on to this process"),
        )
    })
}
