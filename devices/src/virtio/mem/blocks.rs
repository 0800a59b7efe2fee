//! Which blocks are plugged: a bit for each.

use std::ops::Range;

/// A set of blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Blocks {
    words: Vec<u64>,
    len: usize,
    plugged: usize,
}

impl Blocks {
    /// `len` blocks, none of them plugged.
    pub(super) fn new(len: usize) -> Self {
        Self {
            words: vec![0; len.div_ceil(64)],
            len,
            plugged: 0,
        }
    }

    /// Number of blocks.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Number of plugged blocks.
    pub(super) fn plugged(&self) -> usize {
        self.plugged
    }

    /// Whether all of these blocks exist.
    pub(super) fn contains(&self, range: &Range<usize>) -> bool {
        range.start <= range.end && range.end <= self.len
    }

    fn is_plugged(&self, block: usize) -> bool {
        let word = self.words.get(block / 64).copied().unwrap_or(0);
        word >> (block % 64) & 1 == 1
    }

    /// Whether all of these blocks are plugged, or unplugged.
    pub(super) fn all(&self, range: &Range<usize>, plugged: bool) -> bool {
        range.clone().all(|block| self.is_plugged(block) == plugged)
    }

    /// Changes the state of these blocks.
    pub(super) fn set(&mut self, range: Range<usize>, plugged: bool) {
        for block in range {
            if self.is_plugged(block) == plugged {
                continue;
            }
            if let Some(word) = self.words.get_mut(block / 64) {
                *word ^= 1 << (block % 64);
                match plugged {
                    true => self.plugged += 1,
                    false => self.plugged -= 1,
                }
            }
        }
    }

    /// The plugged blocks as runs, in ascending order.
    pub(super) fn runs(&self) -> Vec<Range<usize>> {
        let mut runs: Vec<Range<usize>> = Vec::new();
        for block in (0..self.len).filter(|block| self.is_plugged(*block)) {
            match runs.last_mut() {
                Some(run) if run.end == block => run.end = block + 1,
                _ => runs.push(block..block + 1),
            }
        }
        runs
    }
}

#[cfg(test)]
#[path = "blocks_tests.rs"]
mod tests;
