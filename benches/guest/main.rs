//! First process of a guest whose speed is measured: it does what the kernel command line asks for and says on the
//! console how it went, one line of JSON each after the word that [`MARK`] is. The same program runs under every VMM.
//!
//! `bench.tasks=boot,block,net`, `bench.ms=MILLISECONDS` for each figure, `bench.host=ADDRESS:PORT`, `bench.address=ADDRESS/PREFIX`.

mod block;
mod net;

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::time::{ClockId, clock_gettime};
use serde_json::json;

/// Begins each line that is meant for the benchmark.
const MARK: &str = "virga-bench";
/// How long the guest stays when it has said everything.
const AFTERWARDS: Duration = Duration::from_secs(20);

fn main() {
    // First of all: this is what is measured.
    let clock = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from);
    if let Ok(clock) = clock {
        say("clock_ms", clock.as_secs_f64() * 1e3);
    }
    if let Err(error) = work() {
        println!("{MARK} {}", json!({ "error": format!("{error:#}") }));
    }
    println!("{MARK} {}", json!({ "done": true }));
    // The benchmark looks at the VMM once it has read the line above, and ends it; without a benchmark the guest does.
    std::thread::sleep(AFTERWARDS);
    let _ = reboot(RebootMode::RB_POWER_OFF);
    loop {
        std::thread::park();
    }
}

/// Reports one figure.
fn say(name: &str, value: f64) {
    println!("{MARK} {}", json!({ "name": name, "value": value }));
    let _ = std::io::stdout().flush();
}

fn work() -> Result<()> {
    let none = None::<&str>;
    mount(none, "/proc", Some("proc"), MsFlags::empty(), none).context("cannot mount /proc")?;
    mount(none, "/dev", Some("devtmpfs"), MsFlags::empty(), none).context("cannot mount /dev")?;
    let cmdline = std::fs::read_to_string("/proc/cmdline").context("cannot read the command line")?;
    let options: BTreeMap<&str, &str> = cmdline
        .split_ascii_whitespace()
        .filter_map(|word| word.strip_prefix("bench.")?.split_once('='))
        .collect();
    let option = |name: &str| {
        options
            .get(name)
            .copied()
            .with_context(|| format!("bench.{name}= is missing from the command line"))
    };
    let each = || -> Result<Duration> {
        Ok(Duration::from_millis(
            option("ms")?.parse().context("bench.ms= is no number")?,
        ))
    };
    for task in option("tasks")?.split(',') {
        match task {
            "boot" => {}
            "block" => block::measure(each()?)?,
            "net" => net::measure(each()?, option("address")?, option("host")?)?,
            other => bail!("there is no task {other:?}"),
        }
    }
    Ok(())
}
