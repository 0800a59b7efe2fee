//! Reads and writes the first disk past the page cache, with as much in flight as a database or a copy would have.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use io_uring::{IoUring, opcode, types::Fd};

use crate::say;

const DISK: &str = "/dev/vda";
const SMALL: u32 = 4 << 10;
const LARGE: u32 = 1 << 20;
/// Requests in flight.
const SMALL_DEPTH: u32 = 32;
const LARGE_DEPTH: u32 = 4;

/// How the disk is used.
struct Pattern {
    name: &'static str,
    write: bool,
    random: bool,
    bytes: u32,
    depth: u32,
    /// Reports MiB a second instead of requests a second.
    throughput: bool,
}

const PATTERNS: [Pattern; 4] = [
    Pattern {
        name: "random_read",
        write: false,
        random: true,
        bytes: SMALL,
        depth: SMALL_DEPTH,
        throughput: false,
    },
    Pattern {
        name: "random_write",
        write: true,
        random: true,
        bytes: SMALL,
        depth: SMALL_DEPTH,
        throughput: false,
    },
    Pattern {
        name: "read",
        write: false,
        random: false,
        bytes: LARGE,
        depth: LARGE_DEPTH,
        throughput: true,
    },
    Pattern {
        name: "write",
        write: true,
        random: false,
        bytes: LARGE,
        depth: LARGE_DEPTH,
        throughput: true,
    },
];

/// Measures each pattern for this long.
pub(crate) fn measure(each: Duration) -> Result<()> {
    let mut disk = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(DISK)
        .with_context(|| format!("cannot open {DISK}"))?;
    let size = disk
        .seek(SeekFrom::End(0))
        .context("cannot tell the disk's size")?;
    ensure!(
        size >= u64::from(LARGE * LARGE_DEPTH),
        "{DISK} has {size} bytes, too few to measure"
    );
    for pattern in &PATTERNS {
        let requests = run(&disk, size, pattern, each).with_context(|| format!("{} failed", pattern.name))?;
        say(
            pattern.name,
            match pattern.throughput {
                true => requests * f64::from(pattern.bytes) / f64::from(1 << 20),
                false => requests,
            },
        );
    }
    Ok(())
}

/// Page-aligned memory, one piece for each request in flight.
struct Buffers {
    start: NonNull<u8>,
    layout: Layout,
}

impl Buffers {
    fn new(bytes: usize) -> Result<Self> {
        let layout = Layout::from_size_align(bytes, 4096)?;
        // SAFETY: the layout has a size other than zero: patterns have at least one request of some bytes.
        let start = unsafe { alloc_zeroed(layout) };
        let start = NonNull::new(start).context("no memory")?;
        Ok(Self { start, layout })
    }

    fn piece(&self, index: u32, bytes: u32) -> *mut u8 {
        self.start.as_ptr().wrapping_add(index as usize * bytes as usize)
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // SAFETY: it was allocated with this layout and is freed once.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

/// Requests a second.
fn run(disk: &File, size: u64, pattern: &Pattern, each: Duration) -> Result<f64> {
    let mut ring = IoUring::new(pattern.depth)?;
    let buffers = Buffers::new(pattern.depth as usize * pattern.bytes as usize)?;
    let places = size / u64::from(pattern.bytes);
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = 0;
    let mut offset = || {
        let place = match pattern.random {
            true => {
                // xorshift64 (Marsaglia 2003): any spread will do.
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random % places
            }
            false => {
                next += 1;
                (next - 1) % places
            }
        };
        place * u64::from(pattern.bytes)
    };
    let mut push = |ring: &mut IoUring, slot: u32| -> Result<()> {
        let (fd, buffer, offset) = (Fd(disk.as_raw_fd()), buffers.piece(slot, pattern.bytes), offset());
        let entry = match pattern.write {
            true => opcode::Write::new(fd, buffer, pattern.bytes)
                .offset(offset)
                .build(),
            false => opcode::Read::new(fd, buffer, pattern.bytes)
                .offset(offset)
                .build(),
        };
        // SAFETY: the buffer of a slot is used by one request at a time, and all are waited for before it is freed.
        unsafe { ring.submission().push(&entry.user_data(u64::from(slot)))? };
        Ok(())
    };
    for slot in 0..pattern.depth {
        push(&mut ring, slot)?;
    }
    let began = Instant::now();
    let (mut completed, mut in_flight, mut failure) = (0_u64, pattern.depth, None);
    while in_flight > 0 {
        ring.submit_and_wait(1)?;
        let done: Vec<(u64, i32)> = ring
            .completion()
            .map(|entry| (entry.user_data(), entry.result()))
            .collect();
        for (slot, result) in done {
            in_flight -= 1;
            completed += 1;
            if u32::try_from(result) != Ok(pattern.bytes) {
                failure = Some(result);
            }
            if began.elapsed() < each && failure.is_none() {
                push(&mut ring, slot as u32)?;
                in_flight += 1;
            }
        }
    }
    if let Some(result) = failure {
        bail!("a request ended with {result}");
    }
    Ok(completed as f64 / began.elapsed().as_secs_f64())
}
