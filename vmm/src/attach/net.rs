//! Network interfaces.

use std::io;
use std::os::fd::{OwnedFd, RawFd};

use devices::virtio::net::{self, MacAddress, Net, Tap};

use super::{AttachError, Made, failed};
use crate::config::NetConfig;
use crate::host_file;

/// Ethernet's.
const DEFAULT_MTU: u16 = 1500;

/// Makes a network device.
pub(super) fn make(config: &NetConfig) -> Result<Made, AttachError> {
    let (taps, what) = match &config.tap {
        Some(name) => {
            host_file::check_open().map_err(failed("net", &config.id, format!("tap {name}")))?;
            // The check of the configuration limits the number.
            let queues = config.queue_pairs() as u16;
            (Tap::open_queues(name, queues), format!("tap {name}"))
        }
        None => {
            let numbers: Vec<RawFd> = config.descriptors().collect();
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
        mac: MacAddress(config.mac.0),
        mtu: config.mtu.unwrap_or(DEFAULT_MTU),
        limits: config.limits,
    };
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
