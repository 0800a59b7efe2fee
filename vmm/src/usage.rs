//! How much memory this process takes, and how much of that is not the guest's.

use std::fs::File;
use std::io::{Read, Seek};
use std::ops::Range;

use vm_memory::{GuestMemoryBackend, GuestMemoryRegion, MemoryRegionAddress};

use crate::memory::Ram;

/// Resident memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// All of it.
    pub resident_bytes: u64,
    /// What is not guest memory.
    pub overhead_bytes: u64,
}

/// Measures a process by its open `/proc/PID/smaps`; zero where that cannot be read.
#[must_use]
pub fn measure(memory: &Ram, smaps: &File) -> Usage {
    let guest: Vec<Range<u64>> = memory
        .iter()
        .filter_map(|region| {
            let start = region.get_host_address(MemoryRegionAddress(0)).ok()? as u64;
            Some(start..start + region.len())
        })
        .collect();
    let mut text = String::new();
    // Read from the start each time, and each time written anew by the kernel.
    let read = (&mut &*smaps)
        .rewind()
        .and_then(|()| (&mut &*smaps).read_to_string(&mut text));
    read.map_or_else(|_| Usage::default(), |_| sum(&text, &guest))
}

fn sum(smaps: &str, guest: &[Range<u64>]) -> Usage {
    let mut usage = Usage::default();
    let mut is_guest = false;
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(first) = words.next() else { continue };
        if first == "Rss:" {
            let bytes = words.next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024;
            usage.resident_bytes += bytes;
            if !is_guest {
                usage.overhead_bytes += bytes;
            }
        } else if let Some((start, _)) = first.split_once('-')
            && let Ok(start) = u64::from_str_radix(start, 16)
        {
            is_guest = guest.iter().any(|range| range.contains(&start));
        }
    }
    usage
}

#[cfg(test)]
#[path = "usage_tests.rs"]
mod tests;
