//! Start and size of a VMM: from the start of its process to the first instruction of the guest, and the memory that
//! is its own with a guest of 128 MiB, without devices and with a disk, a network card and a socket device.
//!
//! All VMMs boot the same file, shaped like an uncompressed kernel of 16 MB ([`payload`]), by PVH. Its first
//! instructions write one byte to the serial port. The serial port's output goes into a file, and inotify says when the
//! byte is there. So the first entry into the guest is seen from outside, by the same means for every VMM and without a
//! tracer, which would slow down some more than others. It includes the way of the byte through the VMM.
//!
//! QEMU's `microvm` boots by firmware, which then fetches the kernel. So it is measured twice: with a firmware whose first
//! instruction writes the byte, which shows its first `KVM_RUN` (it has loaded the kernel by then); and to the kernel's
//! entry, by its own firmware. The others enter the kernel directly, so for them both are the same.

mod payload;

use std::fs::{self, File};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::contender::{Contender, Guest, Running};
use crate::interrupt;
use crate::memory::Footprint;
use crate::network;
use crate::report::{Better, Outcome, Row};
use crate::setting::Setting;
use crate::stats::median;

/// Guest memory.
const GUEST_BYTES: u64 = 128 << 20;
/// Size of the disk; nothing reads it.
const DISK_BYTES: u64 = 64 << 20;
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
const MIB: f64 = 1_048_576.0;

/// Rows of the report that an entry has a part in.
const START: &str = "vmm: exec to first KVM_RUN, 16 MB kernel";
const ENTRY: &str = "vmm: exec to the kernel's entry";
const START_DEVICES: &str = "vmm: exec to first KVM_RUN, block, net and vsock";
const OWN: &str = "vmm: own memory, 128 MiB guest";
const ALL: &str = "vmm: memory with the guest's touched pages";
const OWN_DEVICES: &str = "vmm: own memory, block, net and vsock";
const PROGRAM: &str = "vmm: program, stripped";

/// One contender with one guest, and what has been seen of it.
struct Entry {
    contender: Contender,
    guest: Guest,
    rows: &'static [&'static str],
    starts: Vec<f64>,
    own: Vec<f64>,
    all: Vec<f64>,
    failure: Option<String>,
}

/// Measures all VMMs that are there.
pub fn measure(setting: &Setting) -> Result<Vec<Row>> {
    let rounds = setting.rounds(ROUNDS);
    let scratch = TempDir::with_prefix("virga-bench-vmm.").context("cannot make a scratch folder")?;
    let entries = network::within(|network| -> Result<Vec<Entry>> {
        let mut entries = entries(setting, scratch.path(), &network)?;
        for round in 0..=rounds {
            setting.progress("vmm", round, rounds);
            for entry in &mut entries {
                interrupt::check()?;
                let spent: f64 = entry.starts.iter().sum();
                let enough = spent > BUDGET_MS && entry.starts.len() >= LEAST_ROUNDS;
                if enough || entry.failure.is_some() {
                    continue;
                }
                match boot(&entry.contender, &entry.guest, scratch.path()) {
                    // The first round brings files into the page cache.
                    Ok(_) if round == 0 => {}
                    Ok((start, footprint)) => {
                        entry.starts.push(start.as_secs_f64() * 1e3);
                        entry.own.push(footprint.own_bytes as f64 / MIB);
                        entry
                            .all
                            .push((footprint.own_bytes + footprint.guest_bytes) as f64 / MIB);
                    }
                    Err(error) => {
                        interrupt::check()?;
                        setting.remark(&format!("vmm: {}: {error:#}", entry.contender.name));
                        entry.failure = Some(format!("{error:#}"));
                    }
                }
            }
        }
        Ok(entries)
    })?;
    Ok(rows(&entries))
}

fn entries(setting: &Setting, folder: &Path, network: &Result<(), String>) -> Result<Vec<Entry>> {
    let (kernel, firmware, disk) = (
        folder.join("vmlinux"),
        folder.join("firmware"),
        folder.join("disk"),
    );
    for (path, bytes) in [(&kernel, payload::kernel()), (&firmware, payload::firmware())] {
        fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    File::create(&disk)
        .and_then(|file| file.set_len(DISK_BYTES))
        .context("cannot make a disk")?;
    let plain = Guest::new(kernel, GUEST_BYTES);
    let mut devices = plain.clone();
    devices.disk = Some(disk);
    devices.tap = Some(network::TAP.to_owned());
    devices.vsock = true;
    let stand_in = |guest: &Guest| Guest {
        firmware: Some(firmware.clone()),
        ..guest.clone()
    };

    let mut entries = Vec::new();
    let mut add = |contender: &Contender, guest: &Guest, rows: &'static [&'static str]| {
        let obstacle = match guest.tap {
            Some(_) => network.clone().err(),
            None => None,
        };
        entries.push(Entry {
            failure: contender
                .missing()
                .or_else(kvm_missing)
                .or(obstacle)
                .or_else(|| contender.cannot_run(guest)),
            contender: contender.clone(),
            guest: guest.clone(),
            rows,
            starts: Vec::new(),
            own: Vec::new(),
            all: Vec::new(),
        });
    };
    let virga = Contender::virga(setting);
    add(&virga, &plain, &[START, ENTRY, OWN, ALL, PROGRAM]);
    add(&virga, &devices, &[START_DEVICES, OWN_DEVICES]);
    let qemu = Contender::qemu_microvm(setting);
    add(&qemu, &stand_in(&plain), &[START, PROGRAM]);
    add(&qemu, &plain, &[ENTRY, OWN, ALL]);
    add(&qemu, &stand_in(&devices), &[START_DEVICES]);
    add(&qemu, &devices, &[OWN_DEVICES]);
    for other in [Contender::firecracker, Contender::cloud_hypervisor] {
        if let Some(other) = other(setting) {
            add(&other, &plain, &[START, OWN, ALL, PROGRAM]);
            add(&other, &devices, &[START_DEVICES, OWN_DEVICES]);
        }
    }
    Ok(entries)
}

fn kvm_missing() -> Option<String> {
    let error = File::options().read(true).write(true).open("/dev/kvm").err()?;
    Some(format!("/dev/kvm cannot be opened: {error}"))
}

fn rows(entries: &[Entry]) -> Vec<Row> {
    let row = |name: &'static str, unit, values: &dyn Fn(&Entry) -> Outcome| {
        let (ours, peers): (Vec<_>, Vec<_>) = entries
            .iter()
            .filter(|entry| entry.rows.contains(&name))
            .partition(|entry| entry.contender.is_ours());
        Row {
            name: name.to_owned(),
            unit,
            better: Better::Lower,
            ours: ours
                .first()
                .map_or_else(|| Err("not asked for".to_owned()), |entry| values(entry)),
            peers: peers
                .into_iter()
                .map(|entry| (entry.contender.name.to_owned(), values(entry)))
                .collect(),
        }
    };
    let of = |entry: &Entry, samples: &[f64]| match &entry.failure {
        Some(reason) => Err(reason.clone()),
        None => median(samples).ok_or_else(|| "no samples".to_owned()),
    };
    vec![
        row(START, "ms", &|entry| of(entry, &entry.starts)),
        row(START_DEVICES, "ms", &|entry| of(entry, &entry.starts)),
        row(ENTRY, "ms", &|entry| of(entry, &entry.starts)),
        row(OWN, "MiB", &|entry| of(entry, &entry.own)),
        row(OWN_DEVICES, "MiB", &|entry| of(entry, &entry.own)),
        row(ALL, "MiB", &|entry| of(entry, &entry.all)),
        row(PROGRAM, "MiB", &program_size),
    ]
}

/// Size of the program's file; the shared libraries that it needs beside it are not counted.
fn program_size(entry: &Entry) -> Outcome {
    let path = entry.contender.program_file()?;
    let size = fs::metadata(&path).map_err(|error| format!("cannot look at {}: {error}", path.display()))?;
    Ok(size.len() as f64 / MIB)
}

/// Starts a VMM and ends it again.
fn boot(contender: &Contender, guest: &Guest, scratch: &Path) -> Result<(Duration, Footprint)> {
    let mut vmm = Running::start(contender, guest, scratch)?;
    let took = vmm.wait(LIMIT, |printed, elapsed| {
        Ok(printed.contains(&payload::MARK).then_some(elapsed))
    })?;
    thread::sleep(SETTLE);
    let footprint = vmm.footprint()?;
    vmm.end()?;
    Ok((took, footprint))
}
