//! What a Linux guest sees of its VMM: how fast it boots, its disk, its network. All VMMs run the same kernel and the
//! same initrd, whose only program ([the guest's side](../guest/main.rs)) measures from inside and prints figures on the
//! serial port, where they are read from outside.
//!
//! The disk is a file in the page cache, so it is the way through the VMM that is measured and not the host's disk; the
//! network's other end is a thread of this process, over a tap.

mod peer;
mod serial;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::contender::{Contender, Guest, Running};
use crate::interrupt;
use crate::network;
use crate::report::{Better, Outcome, Row};
use crate::setting::Setting;
use crate::stats::median;
use peer::Peer;
use serial::Figures;

/// Guest memory.
const MEMORY_BYTES: u64 = 256 << 20;
/// Rounds, unless the user says otherwise.
const BOOT_ROUNDS: usize = 11;
const IO_ROUNDS: usize = 3;
/// A contender with so many runs that went wrong takes no further part. Guests of emulated machines end out of the blue
/// now and then, whichever VMM they run under.
const MOST_FAILURES: usize = 2;
/// A run that takes longer has failed. Emulated machines are slow.
const LIMIT: Duration = Duration::from_secs(180);
/// How long each figure of disk and network is measured.
const EACH_MS: u32 = 1000;
const MIB: f64 = 1_048_576.0;
/// Bytes of a page of guest memory.
const PAGE: usize = 4096;
/// Size of the disk.
const DISK_BYTES: u64 = 256 << 20;
/// What the kernel is told under every VMM. It must end the VM when it gives up.
const CMDLINE: &str = "console=ttyS0 quiet panic=-1";

/// A figure: its name in the report, the guest's word for it, unit, which way is good.
type Definition = (&'static str, &'static str, &'static str, Better);

/// Words for what is seen from outside.
const FIRST_PROCESS: &str = "first_process";
const OWN_MEMORY: &str = "own_memory";
const BOOT: [Definition; 2] = [
    ("exec to first process", FIRST_PROCESS, "ms", Better::Lower),
    ("kernel's clock at first process", "clock_ms", "ms", Better::Lower),
];
const IO: [Definition; 8] = [
    (
        "random read, 4 KiB, 32 in flight",
        "random_read",
        "1/s",
        Better::Higher,
    ),
    (
        "random write, 4 KiB, 32 in flight",
        "random_write",
        "1/s",
        Better::Higher,
    ),
    ("read, 1 MiB, 4 in flight", "read", "MiB/s", Better::Higher),
    ("write, 1 MiB, 4 in flight", "write", "MiB/s", Better::Higher),
    ("TCP to the host", "send", "Gbit/s", Better::Higher),
    ("TCP from the host", "receive", "Gbit/s", Better::Higher),
    (
        "TCP request and response, 1 byte",
        "request_response",
        "1/s",
        Better::Higher,
    ),
    (
        "the VMM's own memory after that",
        OWN_MEMORY,
        "MiB",
        Better::Lower,
    ),
];

/// What one contender has shown.
struct Results {
    contender: Contender,
    samples: BTreeMap<&'static str, Vec<f64>>,
    /// Runs that went wrong.
    failures: usize,
    /// Why it takes no further part.
    failure: Option<String>,
}

/// Measures all VMMs that are there.
pub fn measure(setting: &Setting) -> Result<Vec<Row>> {
    let scratch = TempDir::with_prefix("virga-bench-guest.").context("cannot make a scratch folder")?;
    let files = Files::prepare(setting, scratch.path());
    let obstacle = match &files {
        Err(reason) => Some(reason.clone()),
        Ok(_) => no_guests_here(setting).err(),
    };
    let mut rows = Vec::new();
    for (machine, pci, contenders) in [
        ("virtio-mmio", false, minimal_machines(setting)),
        ("PCI", true, full_machines(setting)),
    ] {
        rows.extend(run_all(
            setting,
            contenders,
            &obstacle,
            BOOT_ROUNDS,
            &BOOT,
            &format!("guest, {machine}"),
            |contender| {
                let files = files.as_ref().map_err(|reason| anyhow!("{reason}"))?;
                let mut guest = files.guest("boot", "");
                guest.pci = pci;
                run(contender, &guest, scratch.path())
            },
        )?);
    }
    let io = network::within(|network| {
        let obstacle = obstacle.or_else(|| network.err());
        let peer = match obstacle {
            None => Some(Peer::start()?),
            Some(_) => None,
        };
        run_all(
            setting,
            full_machines(setting)
                .into_iter()
                .chain(minimal_machines(setting).into_iter().skip(1))
                .collect(),
            &obstacle,
            IO_ROUNDS,
            &IO,
            "guest",
            |contender| {
                let (Ok(files), Some(peer)) = (&files, &peer) else {
                    bail!("there is nothing to run");
                };
                let options = format!(
                    "bench.ms={EACH_MS} bench.address={}/{} bench.host={}",
                    network::GUEST,
                    network::PREFIX,
                    peer.address()
                );
                let mut guest = files.guest("block,net", &options);
                guest.disk = Some(files.disk.clone());
                guest.tap = Some(network::TAP.to_owned());
                run(contender, &guest, scratch.path())
            },
        )
    })?;
    rows.extend(io);
    Ok(rows)
}

/// VMMs without a PCI bus, ours first.
fn minimal_machines(setting: &Setting) -> Vec<Contender> {
    let ours = [Contender::virga(setting), Contender::qemu_microvm(setting)];
    ours.into_iter().chain(Contender::firecracker(setting)).collect()
}

/// VMMs with one, ours first.
fn full_machines(setting: &Setting) -> Vec<Contender> {
    let ours = [Contender::virga(setting), Contender::qemu_q35(setting)];
    ours.into_iter()
        .chain(Contender::cloud_hypervisor(setting))
        .collect()
}

/// What all VMMs run.
struct Files {
    kernel: PathBuf,
    initrd: PathBuf,
    disk: PathBuf,
}

impl Files {
    fn prepare(setting: &Setting, folder: &Path) -> Result<Self, String> {
        let kernel = setting.shared("vmlinux")?;
        let program = setting.shared("bench-guest")?;
        let (initrd, disk) = (folder.join("initrd"), folder.join("disk"));
        let write = || -> Result<()> {
            let mut archive =
                guest_agent::initrd::init_archive(&program).context("cannot pack the initrd")?;
            // Zeroes to the end of the page: QEMU's microvm puts the initrd at the end of memory, and its firmware puts the
            // ACPI tables into the last page, also when the initrd has a part of that.
            archive.resize(archive.len().next_multiple_of(PAGE), 0);
            fs::write(&initrd, archive).context("cannot write the initrd")?;
            // Written out, so that there are no holes, which are quicker than a disk.
            let mut disk = File::create(&disk).context("cannot make the disk")?;
            std::io::copy(
                &mut std::io::Read::take(std::io::repeat(0x5a), DISK_BYTES),
                &mut disk,
            )
            .context("cannot write the disk")?;
            Ok(())
        };
        write().map_err(|error| format!("{error:#}"))?;
        Ok(Self { kernel, initrd, disk })
    }

    fn guest(&self, tasks: &str, options: &str) -> Guest {
        let mut guest = Guest::new(self.kernel.clone(), MEMORY_BYTES);
        guest.initrd = Some(self.initrd.clone());
        guest.cmdline = format!("{CMDLINE} bench.tasks={tasks} {options}")
            .trim_end()
            .to_owned();
        guest
    }
}

/// Whether this host's KVM runs Linux at all.
fn no_guests_here(setting: &Setting) -> Result<(), String> {
    let program = setting.program("virga-vmm")?;
    let output = Command::new(&program).arg("--probe").output();
    let output = output.map_err(|error| format!("cannot run {}: {error}", program.display()))?;
    let kind: Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("{} --probe is not understood: {error}", program.display()))?;
    match kind["kind"].as_str() {
        Some("hardware") => Ok(()),
        _ => Err(format!(
            "this host's KVM runs no Linux guests: {}",
            kind["reason"].as_str().unwrap_or("it does not say why")
        )),
    }
}

fn run_all(
    setting: &Setting,
    contenders: Vec<Contender>,
    obstacle: &Option<String>,
    rounds: usize,
    definitions: &[Definition],
    label: &str,
    run: impl Fn(&Contender) -> Result<Figures>,
) -> Result<Vec<Row>> {
    let rounds = setting.rounds(rounds);
    let mut all: Vec<Results> = contenders
        .into_iter()
        .map(|contender| Results {
            failure: contender.missing().or_else(|| obstacle.clone()),
            contender,
            failures: 0,
            samples: BTreeMap::new(),
        })
        .collect();
    for round in 0..=rounds {
        setting.progress(label, round, rounds);
        for results in all.iter_mut().filter(|results| results.failure.is_none()) {
            interrupt::check()?;
            match run(&results.contender) {
                // The first round brings files into the page cache.
                Ok(_) if round == 0 => {}
                Ok(figures) => {
                    for (_, word, ..) in definitions {
                        if let Some(value) = figures.get(*word) {
                            results.samples.entry(word).or_default().push(*value);
                        }
                    }
                }
                Err(error) => {
                    interrupt::check()?;
                    setting.remark(&format!("{label}: {}: {error:#}", results.contender.name));
                    results.failures += 1;
                    if results.failures == MOST_FAILURES {
                        results.failure = Some(format!("{error:#}"));
                    }
                }
            }
        }
    }
    Ok(definitions
        .iter()
        .map(|definition| row(label, definition, &all))
        .collect())
}

fn row(label: &str, &(name, word, unit, better): &Definition, all: &[Results]) -> Row {
    let outcome = |results: &Results| -> Outcome {
        match &results.failure {
            Some(reason) => Err(reason.clone()),
            None => results
                .samples
                .get(word)
                .and_then(|samples| median(samples))
                .ok_or_else(|| "the guest did not report it".to_owned()),
        }
    };
    let (ours, peers): (Vec<_>, Vec<_>) = all.iter().partition(|results| results.contender.is_ours());
    Row {
        name: format!("{label}: {name}"),
        unit,
        better,
        ours: ours
            .first()
            .map_or_else(|| Err("not asked for".to_owned()), |results| outcome(results)),
        peers: peers
            .into_iter()
            .map(|results| (results.contender.name.to_owned(), outcome(results)))
            .collect(),
    }
}

/// Runs a guest until it has said everything.
fn run(contender: &Contender, guest: &Guest, scratch: &Path) -> Result<Figures> {
    let mut vmm = Running::start(contender, guest, scratch)?;
    let mut first_process = None;
    let mut figures = vmm.wait(LIMIT, |printed, elapsed| {
        let text = String::from_utf8_lossy(printed);
        if first_process.is_none() && text.contains(serial::MARK) {
            first_process = Some(elapsed.as_secs_f64() * 1e3);
        }
        serial::parse(&text)
    })?;
    let own_bytes = vmm.footprint()?.own_bytes;
    vmm.end()?;
    figures.insert(OWN_MEMORY.to_owned(), own_bytes as f64 / MIB);
    figures.extend(first_process.map(|value| (FIRST_PROCESS.to_owned(), value)));
    Ok(figures)
}
