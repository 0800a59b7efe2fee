//! Takes guest memory from the host before the guest starts, so that it neither waits for pages nor finds them missing.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::load::host_range;
use super::{MemoryError, Ram};

/// What a thread takes at once: small enough to divide the work evenly. The kernel rounds nothing: pages of 1 GiB are
/// provided whole by whichever thread comes first.
const CHUNK: u64 = 64 << 20;
/// The host zeroes pages about as fast as its memory goes; more threads than this only get in each other's way.
const MAX_THREADS: usize = 16;

/// Has the host provide the pages of these ranges of guest memory.
pub(super) fn prefault(memory: &Ram, ranges: &[(u64, u64)]) -> Result<(), MemoryError> {
    let mut chunks = Vec::new();
    for (start, len) in ranges {
        for done in (0..*len).step_by(CHUNK as usize) {
            let len = CHUNK.min(len - done);
            chunks.push((host_range(memory, start + done, len)? as usize, len));
        }
    }
    let threads = thread::available_parallelism()
        .map_or(1, usize::from)
        .min(MAX_THREADS);
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some((address, len)) = chunks.get(next.fetch_add(1, Ordering::Relaxed)) {
            populate(*address, *len)?;
        }
        Ok(())
    };
    let results: Vec<io::Result<()>> = thread::scope(|scope| {
        let started: Vec<_> = (1..threads.min(chunks.len()))
            .map(|_| scope.spawn(work))
            .collect();
        let own = work();
        let joined = started.into_iter().map(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("a thread died")))
        });
        std::iter::once(own).chain(joined).collect()
    });
    results
        .into_iter()
        .collect::<io::Result<()>>()
        .map_err(MemoryError::Prefault)
}

fn populate(address: usize, len: u64) -> io::Result<()> {
    loop {
        // SAFETY: the range is guest memory, which the caller's reference keeps; the call provides pages and changes
        // no contents.
        let result = unsafe { libc::madvise(address as *mut _, len as usize, libc::MADV_POPULATE_WRITE) };
        if result == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR | libc::EAGAIN) => {}
            Some(libc::EINVAL) => return Err(io::Error::new(error.kind(), "this needs Linux 5.14 or later")),
            _ => return Err(error),
        }
    }
}
