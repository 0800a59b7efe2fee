//! Bounds on what an image may unpack to, progress, and cancellation.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

/// What an image may unpack to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all files together.
    pub bytes: u64,
    /// Files, folders, links and devices together.
    pub entries: u64,
}

impl Default for Limits {
    /// 64 GiB and two million entries: several times the largest image in use, and still no way to fill a large pool.
    fn default() -> Self {
        Self {
            bytes: 64 << 30,
            entries: 2_000_000,
        }
    }
}

/// How far a long job is, and the way to end it.
pub(crate) struct Progress<'a> {
    /// Called with the bytes of the image file that are done.
    pub(crate) report: &'a mut dyn FnMut(u64),
    /// Looked at between entries; true ends the job with [`Error::Cancelled`].
    pub(crate) cancel: &'a AtomicBool,
}

impl Progress<'_> {
    pub(crate) fn check(&self) -> Result<()> {
        if self.cancel.load(Ordering::Relaxed) {
            Err(Error::Cancelled)
        } else {
            Ok(())
        }
    }
}

/// Counts what has been unpacked against the limits.
#[derive(Debug)]
pub(crate) struct Budget {
    limits: Limits,
    bytes: u64,
    entries: u64,
}

impl Budget {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            bytes: 0,
            entries: 0,
        }
    }

    pub(crate) fn entry(&mut self) -> Result<()> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(Error::TooLarge {
                what: "entries",
                limit: self.limits.entries,
            });
        }
        Ok(())
    }

    pub(crate) fn bytes(&mut self, count: u64) -> Result<()> {
        self.bytes = self.bytes.saturating_add(count);
        if self.bytes > self.limits.bytes {
            return Err(Error::TooLarge {
                what: "bytes",
                limit: self.limits.bytes,
            });
        }
        Ok(())
    }
}
