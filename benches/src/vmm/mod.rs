//! Start and size of a VMM: from the start of its process to the first instruction of the guest, and the memory that
//! is its own with a guest of 128 MiB.
//!
//! All VMMs boot the same file, shaped like an uncompressed kernel of 16 MB ([`payload`]), by PVH. Its first
//! instructions write one byte to the serial port. The serial port's output goes into a file, and inotify says when the
//! byte is there. So the first entry into the guest is seen from outside, by the same means for every VMM and without a
//! tracer, which would slow down some more than others. It includes the way of the byte through the VMM.
//!
//! QEMU's `microvm` boots by firmware, which then fetches the kernel. So it is measured twice: with a firmware whose first
//! instruction writes the byte, which shows its first `KVM_RUN` (it has loaded the kernel by then); and to the kernel's
//! entry, by its own firmware. The others enter the kernel directly, so for them both are the same.

mod contender;
mod payload;
mod watch;

use std::fs::{self, File};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::interrupt;
use crate::memory::{self, Resident};
use crate::process::{Process, last_words};
use crate::report::{Better, Outcome, Row};
use crate::setting::Setting;
use crate::stats::median;
use contender::{Contender, Guest};
use watch::Watch;

/// Guest memory.
const GUEST_BYTES: u64 = 128 << 20;
/// Rounds, unless the user says otherwise.
const ROUNDS: usize = 21;
/// A start that takes longer than this has failed.
const LIMIT: Duration = Duration::from_secs(20);
/// A contender that has taken so long has been measured often enough.
const BUDGET_MS: f64 = 15_000.0;
/// Rounds that even a slow one gets.
const LEAST_ROUNDS: usize = 3;
/// Time for a VMM to get through with its start before its memory is looked at.
const SETTLE: Duration = Duration::from_millis(100);

/// What one contender has shown.
struct Results {
    contender: Contender,
    /// Milliseconds to the guest's first instruction.
    starts: Vec<f64>,
    /// Bytes.
    own: Vec<f64>,
    all: Vec<f64>,
    failure: Option<String>,
}

/// Measures all VMMs that are there.
pub fn measure(setting: &Setting) -> Result<Vec<Row>> {
    let rounds = setting.rounds(ROUNDS);
    let scratch = TempDir::with_prefix("virga-bench-vmm.").context("cannot make a scratch folder")?;
    let guest = Guest::create(scratch.path(), GUEST_BYTES)?;
    let mut all: Vec<Results> = Contender::all(setting)
        .into_iter()
        .map(|contender| Results {
            failure: contender.missing().or_else(kvm_missing),
            contender,
            starts: Vec::new(),
            own: Vec::new(),
            all: Vec::new(),
        })
        .collect();
    for round in 0..=rounds {
        eprintln!("vmm: round {round} of {rounds}");
        for results in &mut all {
            interrupt::check()?;
            let spent: f64 = results.starts.iter().sum();
            let enough = spent > BUDGET_MS && results.starts.len() >= LEAST_ROUNDS;
            if enough || results.failure.is_some() {
                continue;
            }
            match boot(&results.contender, &guest, scratch.path()) {
                // The first round brings files into the page cache.
                Ok(_) if round == 0 => {}
                Ok((start, resident)) => {
                    results.starts.push(start.as_secs_f64() * 1e3);
                    results.own.push(resident.own_bytes as f64);
                    results
                        .all
                        .push((resident.own_bytes + resident.guest_bytes) as f64);
                }
                Err(error) => {
                    interrupt::check()?;
                    eprintln!("vmm: {}: {error:#}", results.contender.name);
                    results.failure = Some(format!("{error:#}"));
                }
            }
        }
    }
    Ok(rows(&all))
}

fn kvm_missing() -> Option<String> {
    let error = File::options().read(true).write(true).open("/dev/kvm").err()?;
    Some(format!("/dev/kvm cannot be opened: {error}"))
}

fn rows(all: &[Results]) -> Vec<Row> {
    let row = |name: &str, unit, scale: f64, with: fn(&Contender) -> bool, values: fn(&Results) -> &[f64]| {
        let outcome = |results: &Results| -> Outcome {
            match &results.failure {
                Some(reason) => Err(reason.clone()),
                None => median(values(results))
                    .map(|value| value / scale)
                    .ok_or_else(|| "no samples".to_owned()),
            }
        };
        let (ours, peers): (Vec<_>, Vec<_>) = all.iter().partition(|results| results.contender.is_ours());
        Row {
            name: name.to_owned(),
            unit,
            better: Better::Lower,
            ours: ours
                .first()
                .map_or_else(|| Err("not asked for".to_owned()), |results| outcome(results)),
            peers: peers
                .into_iter()
                .filter(|results| with(&results.contender))
                .map(|results| (results.contender.name.to_owned(), outcome(results)))
                .collect(),
        }
    };
    const MIB: f64 = 1_048_576.0;
    let runs = |contender: &Contender| !contender.runs_own_firmware();
    let boots = |contender: &Contender| !contender.has_stand_in_firmware();
    vec![
        row("vmm: exec to first KVM_RUN, 16 MB kernel", "ms", 1.0, runs, |r| {
            &r.starts
        }),
        row(
            "vmm: exec to the kernel's entry",
            "ms",
            1.0,
            Contender::runs_own_firmware,
            |r| &r.starts,
        ),
        row(
            "vmm: own resident memory, 128 MiB guest",
            "MiB",
            MIB,
            boots,
            |r| &r.own,
        ),
        row(
            "vmm: resident memory with the guest's touched pages",
            "MiB",
            MIB,
            boots,
            |r| &r.all,
        ),
    ]
}

/// Starts a VMM and ends it again.
fn boot(contender: &Contender, guest: &Guest, scratch: &Path) -> Result<(Duration, Resident)> {
    let folder = TempDir::with_prefix_in("vm.", scratch).context("cannot make a scratch folder")?;
    let output = folder.path().join("serial");
    File::create(&output).with_context(|| format!("cannot make {}", output.display()))?;
    let mut command = contender.command(guest, folder.path(), &output)?;
    let said = folder.path().join("said");
    command.stderr(File::create(&said).context("cannot make a log file")?);
    let watch = Watch::new(&output)?;
    let started = Instant::now();
    let mut process = Process::start(&mut command)?;
    loop {
        if fs::read(&output)?.contains(&payload::MARK) {
            break;
        }
        if let Some(status) = process.ended()? {
            bail!(
                "it ended ({status}): {}",
                last_words(&fs::read_to_string(&said).unwrap_or_default())
            );
        }
        interrupt::check()?;
        if started.elapsed() > LIMIT {
            bail!("its guest did not run within {} s", LIMIT.as_secs());
        }
        watch.wait(Duration::from_millis(200))?;
    }
    let took = started.elapsed();
    thread::sleep(SETTLE);
    let resident = memory::of_vmm(process.id(), GUEST_BYTES)?;
    process.terminate(Duration::from_secs(5))?;
    Ok((took, resident))
}
