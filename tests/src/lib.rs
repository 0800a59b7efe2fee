//! What the end-to-end tests share: a host with a daemon of its own, and clients.
//!
//! A [`Host`] is a network and mount namespace with a `virgad` in it, on a scratch
//! state directory. Dropping it takes away every instance, process and file of it,
//! also when a test panics. Tests get the built programs by `VIRGA_DIST` (as
//! `ci/build` lays them out) and the unmodified incus client by `VIRGA_INCUS_CLIENT`.
//!
//! A [`Guest`] is a Linux guest on `virga-vmm` without a daemon, a [`BackEnd`] serves a device to one of any VMM, and
//! [`network`] has a network of a test's own for its card.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a fixture that cannot do its part fails the test"
)]

mod back_end;
mod client;
mod guest;
mod host;
pub mod network;
mod skip;

pub use back_end::{BACK_END_USER, BackEnd};
pub use client::{Client, Outcome};
pub use guest::{Guest, initrd};
pub use host::{Host, dist, virga};
pub use skip::{doctor, skipped, virtual_machines_run_here, why_no_virtual_machines};

/// What kind of instance a story is told about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A system container.
    Container,
    /// A microVM.
    VirtualMachine,
}

impl Kind {
    /// Options of `launch` that make this kind.
    pub fn launch_options(self) -> &'static [&'static str] {
        match self {
            Kind::Container => &[],
            Kind::VirtualMachine => &["--vm", "-c", "limits.memory=160MiB"],
        }
    }

    /// The API's word.
    pub fn api_type(self) -> &'static str {
        match self {
            Kind::Container => "container",
            Kind::VirtualMachine => "virtual-machine",
        }
    }
}
