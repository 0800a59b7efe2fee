//! Networks for instances: managed bridges with NAT, DHCP and DNS, and the taps and veth pairs that plug
//! microVMs and containers into them.
//!
//! The daemon owns one [`Networks`] for its state directory and calls it for everything. Nothing about a
//! network lives in memory alone: what should exist is told by the caller ([`BridgeConfig`]), what does exist
//! is read from the kernel, from nftables and from the files of the network's folder. Every operation can be
//! repeated, and can be killed between any two of its steps: calling it again finishes the work.
//!
//! Whatever Virga makes on the host carries a marker made from the state directory (link alias `virga:<id>`,
//! nftables table `virga-<id>-<network>`, dnsmasq's `--pid-file` below the state directory), so that two
//! daemons on one host never take away each other's networks and no foreign link is ever touched.
//!
//! All work concerns the network namespace that the process runs in.

mod bridge;
mod dnsmasq;
mod error;
mod files;
mod firewall;
mod folder;
mod hwaddr;
mod keys;
mod leases;
mod manager;
mod names;
mod netlink;
mod netns;
mod port;
mod process;
mod release;
mod reservation;
mod state;
mod subnet;
mod sysctl;
mod tap;
mod veth;

pub use error::Error;
pub use hwaddr::HwAddr;
pub use keys::{BridgeConfig, DnsMode, IpRange};
pub use leases::{Lease, LeaseKind};
pub use manager::{Networks, Recovered};
pub use names::{check_host_name, check_interface_name};
pub use reservation::{Choice, Reservation, Reserved};
pub use state::{Address, BridgeState, Counters, HostLink, LinkKind, NetworkState};
pub use tap::TapSpec;
pub use veth::{Preset, VethSpec};

/// What every function of this crate returns.
pub type Result<T> = std::result::Result<T, Error>;
