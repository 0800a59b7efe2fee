//! `virga-bench`: measures Virga beside its peers. See docs/benchmarks.md for what each number means.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use benches::machine::Machine;
use benches::report::{self, Row};
use benches::setting::Setting;
use benches::{api, container, interrupt, launch, vmm};
use clap::{Parser, ValueEnum};

/// Measures Virga beside its peers, in one run, and prints a table.
///
/// Progress is on standard error. Run it by ci/bench, which builds Virga and fetches the peers.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// What to measure [default: everything]
    groups: Vec<Group>,
    /// Also write a JSON list of {name, value, unit, peer, peer_value, ratio}
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Rounds of each measurement instead of each group's own number
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// Folder made by ci/build, with bin/ and share/
    #[arg(long, value_name = "DIR", default_value = "target/dist")]
    dist: PathBuf,
    /// Unified image for the container, api and launch groups (ci/images/busybox prints one)
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// A peer's program, or the folder its package was unpacked into: qemu, firecracker, cloud-hypervisor, crun, runc, incus
    #[arg(long, value_name = "NAME=PATH", value_parser = peer)]
    peer: Vec<(String, PathBuf)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Group {
    /// Start and memory of the VMM beside QEMU's microvm
    Vmm,
    /// Containers by the OCI command line beside crun and runc
    Container,
    /// Requests to the API beside Incus
    Api,
    /// Launch, exec and delete through the API beside Incus
    Launch,
}

const PEERS: [&str; 6] = ["qemu", "firecracker", "cloud-hypervisor", "crun", "runc", "incus"];

fn peer(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if PEERS.contains(&name) && !path.is_empty() => Ok((name.to_owned(), path.into())),
        _ => Err(format!(
            "give NAME=PATH with one of these names: {}",
            PEERS.join(", ")
        )),
    }
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if interrupt::requested() => {
            eprintln!("virga-bench: interrupted; everything it started has been ended");
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("virga-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    interrupt::install()?;
    let groups = match arguments.groups.is_empty() {
        true => vec![Group::Vmm, Group::Container, Group::Api, Group::Launch],
        false => arguments.groups,
    };
    let setting = Setting {
        dist: std::path::absolute(&arguments.dist).context("cannot find the current folder")?,
        peers: arguments.peer.into_iter().collect(),
        rounds: arguments.rounds,
        image: arguments.image,
    };
    let machine = Machine::note();
    let mut rows: Vec<Row> = Vec::new();
    for group in groups {
        let measured = match group {
            Group::Vmm => vmm::measure(&setting),
            Group::Container => container::measure(&setting),
            Group::Api => api::measure(&setting),
            Group::Launch => launch::measure(&setting),
        };
        rows.extend(measured.with_context(|| format!("cannot measure {group:?}").to_lowercase())?);
    }
    let figures = report::figures(&rows);
    if figures.is_empty() {
        bail!("nothing was measured");
    }
    println!("{}\n{}", report::table(&figures), machine.describe());
    if let Some(path) = arguments.json {
        let text = serde_json::to_string_pretty(&figures)? + "\n";
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
