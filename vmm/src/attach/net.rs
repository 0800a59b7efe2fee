//! Network interfaces.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use devices::virtio::net::{self, Net, Tap};

use super::{AttachError, Made, failed};
use crate::config::NetConfig;

/// Ethernet's.
const DEFAULT_MTU: u16 = 1500;

/// Makes a network device.
pub(super) fn make(config: &NetConfig) -> Result<Made, AttachError> {
    let (tap, what) = match (&config.tap, config.fd) {
        (Some(name), _) => (Tap::open(name), format!("tap {name}")),
        (None, Some(fd)) => {
            let what = format!("descriptor {fd}");
            // SAFETY: asks for the flags of a number, whether it is open or not.
            if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
                let error = io::Error::new(
                    io::ErrorKind::NotFound,
                    "it is not open; pass it on to this process",
                );
                return Err(failed("net", &config.id, what)(error));
            }
            // SAFETY: the descriptor is open, `main` kept it open for this use only, and each number is used once:
            // configurations with doubles are refused.
            let fd_owned = unsafe { OwnedFd::from_raw_fd(fd) };
            (Tap::from_fd(fd_owned), what)
        }
        (None, None) => {
            return Err(failed("net", &config.id, "nothing")(
                "neither tap nor fd is given",
            ));
        }
    };
    let tap = tap.map_err(failed("net", &config.id, &what))?;
    let device_config = net::Config {
        mac: net::MacAddress(config.mac.0),
        mtu: config.mtu.unwrap_or(DEFAULT_MTU),
    };
    let net = Net::new(device_config, tap).map_err(failed("net", &config.id, &what))?;
    Ok(Made::new(&config.id, "net", net))
}
