//! Makes the initrd of a microVM, as the daemon does, for booting one by hand:
//!
//! `cargo run --example initrd -- AGENT CONFIG.json OUT.cpio`

use std::path::Path;

use anyhow::{Context, bail};
use guest_agent::config::GuestConfig;
use guest_agent::initrd::{config_archive, init_archive};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [agent, config, out] = arguments.as_slice() else {
        bail!("arguments: AGENT CONFIG.json OUT.cpio")
    };
    let config: GuestConfig = serde_json::from_slice(&std::fs::read(config).with_context(|| config.clone())?)
        .with_context(|| config.clone())?;
    let mut initrd = init_archive(Path::new(agent)).with_context(|| agent.clone())?;
    initrd.resize(initrd.len().next_multiple_of(4096), 0);
    initrd.extend(config_archive(&config)?);
    std::fs::write(out, initrd).with_context(|| out.clone())
}
