//! How much of a process's memory is its own, seen from outside and in the same way for every VMM: its proportional set
//! size, in which a page that several processes map counts for each with its share (proc_pid_smaps(5)).

use std::fs;

use anyhow::{Context, Result};

/// Proportional set size of a VMM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// What is not guest memory: code, heap, stacks, libraries, the kernel file if it was read into a buffer.
    pub own_bytes: u64,
    /// Guest memory that has been touched.
    pub guest_bytes: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Mapping {
    start: u64,
    end: u64,
    resident: u64,
    proportional: u64,
}

/// Resident memory of any process.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    let mappings = read(pid)?;
    Ok(mappings.iter().map(|mapping| mapping.resident).sum())
}

/// Proportional set size of a VMM whose guest has `guest_size` bytes in one piece.
pub fn of_vmm(pid: u32, guest_size: u64) -> Result<Footprint> {
    split(&read(pid)?, guest_size)
        .with_context(|| format!("process {pid} has no {guest_size} bytes of guest memory"))
}

fn read(pid: u32) -> Result<Vec<Mapping>> {
    let path = format!("/proc/{pid}/smaps");
    Ok(parse(
        &fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?,
    ))
}

/// Reads `/proc/PID/smaps` (proc_pid_smaps(5)).
fn parse(smaps: &str) -> Vec<Mapping> {
    let mut mappings: Vec<Mapping> = Vec::new();
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(first) = words.next() else { continue };
        if matches!(first, "Rss:" | "Pss:") {
            let kib = words.next().and_then(|kib| kib.parse::<u64>().ok());
            if let (Some(kib), Some(mapping)) = (kib, mappings.last_mut()) {
                match first {
                    "Rss:" => mapping.resident = kib * 1024,
                    _ => mapping.proportional = kib * 1024,
                }
            }
        } else if let Some((start, end)) = first.split_once('-')
            && let (Ok(start), Ok(end)) = (u64::from_str_radix(start, 16), u64::from_str_radix(end, 16))
        {
            mappings.push(Mapping {
                start,
                end,
                ..Mapping::default()
            });
        }
    }
    mappings
}

/// Guest memory is the run of adjacent mappings that has exactly its size (a kernel file mapped over a part of it cuts
/// it into pieces), or else the one mapping that contains it, because the kernel merged it with a neighbour.
fn split(mappings: &[Mapping], guest_size: u64) -> Option<Footprint> {
    let total: u64 = mappings.iter().map(|mapping| mapping.proportional).sum();
    let run = (0..mappings.len()).find_map(|first| {
        let mut end = mappings[first].start;
        for (last, mapping) in mappings.iter().enumerate().skip(first) {
            if mapping.start != end || mapping.end - mappings[first].start > guest_size {
                return None;
            }
            end = mapping.end;
            if end - mappings[first].start == guest_size {
                return Some(&mappings[first..=last]);
            }
        }
        None
    });
    let guest_bytes = match run {
        Some(run) => run.iter().map(|mapping| mapping.proportional).sum(),
        None => mappings
            .iter()
            .filter(|m| m.end - m.start > guest_size)
            .map(|m| m.proportional)
            .max()?,
    };
    Some(Footprint {
        own_bytes: total - guest_bytes,
        guest_bytes,
    })
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
