//! A network of one tap, in a namespace that only one thread and what it starts live in. It is gone with them, and no
//! packet leaves it.

use std::net::Ipv4Addr;
use std::process::Command;
use std::thread;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, unshare};

use crate::process::run;

/// The tap's name.
pub(crate) const TAP: &str = "tap0";
/// The host's address on it.
pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(10, 147, 8, 1);
/// The guest's address.
pub(crate) const GUEST: Ipv4Addr = Ipv4Addr::new(10, 147, 8, 2);
/// Bits of both addresses that name the network.
pub(crate) const PREFIX: u8 = 24;

/// Runs `work` on a thread in such a network, or tells it why there is none.
pub(crate) fn within<T: Send>(work: impl FnOnce(Result<(), String>) -> T + Send) -> T {
    thread::scope(|scope| {
        let worker =
            scope.spawn(|| work(make().map_err(|error| format!("no network of its own: {error:#}"))));
        match worker.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn make() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace; run as root")?;
    let address = format!("{HOST}/{PREFIX}");
    for words in [
        &["link", "set", "lo", "up"][..],
        &["tuntap", "add", "dev", TAP, "mode", "tap", "vnet_hdr"],
        &["addr", "add", &address, "dev", TAP],
        &["link", "set", TAP, "up"],
    ] {
        run(Command::new("ip").args(words))?;
    }
    Ok(())
}
