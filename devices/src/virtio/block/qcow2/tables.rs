//! The image's tables: a bounded cache of their pages, and the order in which changes reach the disk.
//!
//! A power cut may come at any write, so whatever is pointed to must be durable before the pointer is. Each page of a
//! table has a [`Stage`]; [`Tables::write_back`] writes the changed pages stage by stage with a barrier before each
//! one. The first barrier also covers guest data, which is written before its mapping changes. So a cut leaves clusters
//! that nobody uses, at worst, and never a mapping to what is not there.

use super::storage::Storage;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;

/// Bytes of a page; less when clusters are smaller, so that a page never has two tables in it.
const PAGE: u64 = 4096;
/// The most pages held: half a megabyte. One page of L2 entries maps 32 MiB of a disk with clusters of 64 KiB.
const PAGES_MAX: usize = 128;

/// Which table a page belongs to, in the order in which they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Refcounts: written first, so that a cluster is taken before anything points to it.
    Refcounts,
    /// Pointers to blocks of refcounts.
    RefcountTable,
    /// Pointers to guest data.
    L2,
    /// Pointers to L2 tables.
    L1,
}

struct Page {
    bytes: Box<[u8]>,
    /// Set if the page is to be written.
    changed: Option<Stage>,
    /// When it was used last.
    used: u64,
}

/// A position of a refcount within its page: bits from the end of the bytes that hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bits {
    /// Offset in the file of the first byte.
    pub(super) at: u64,
    /// How far to shift right; other than 0 only below eight bits.
    pub(super) shift: u32,
    /// Number of bits.
    pub(super) count: u32,
}

/// The cache.
pub(super) struct Tables {
    storage: Arc<dyn Storage>,
    page: u64,
    pages: HashMap<u64, Page>,
    clock: u64,
    changed: usize,
    generation: u64,
}

impl Tables {
    pub(super) fn new(storage: Arc<dyn Storage>, cluster: u64) -> Self {
        Self {
            storage,
            page: PAGE.min(cluster),
            pages: HashMap::new(),
            clock: 0,
            changed: 0,
            generation: 0,
        }
    }

    /// Bytes of a page.
    pub(super) fn page_len(&self) -> u64 {
        self.page
    }

    /// Whether something has to be written.
    pub(super) fn is_changed(&self) -> bool {
        self.changed > 0
    }

    /// Counts the times that everything was written and durable.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    fn page(&mut self, at: u64) -> io::Result<&mut Page> {
        let start = at - at % self.page;
        self.clock += 1;
        if !self.pages.contains_key(&start) {
            self.make_room()?;
            let mut bytes = vec![0; self.page as usize].into_boxed_slice();
            if self.storage.read_at(&mut bytes, start)? == 0 {
                let problem = format!("the image has a table at {start:#x}, beyond its end");
                return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
            }
            let page = Page {
                bytes,
                changed: None,
                used: 0,
            };
            self.pages.insert(start, page);
        }
        let page = self.pages.get_mut(&start).ok_or(io::ErrorKind::NotFound)?;
        page.used = self.clock;
        Ok(page)
    }

    fn make_room(&mut self) -> io::Result<()> {
        if self.pages.len() < PAGES_MAX {
            return Ok(());
        }
        if self.changed == self.pages.len() {
            self.write_back()?;
        }
        let unchanged = self.pages.iter().filter(|(_, page)| page.changed.is_none());
        if let Some(oldest) = unchanged.min_by_key(|(_, page)| page.used).map(|(at, _)| *at) {
            self.pages.remove(&oldest);
        }
        Ok(())
    }

    /// The bytes of a page from `at` on.
    pub(super) fn bytes(&mut self, at: u64) -> io::Result<&[u8]> {
        let from = (at % self.page) as usize;
        Ok(self.page(at)?.bytes.get(from..).unwrap_or_default())
    }

    fn change(&mut self, at: u64, bytes: &[u8], stage: Stage) -> io::Result<()> {
        let from = (at % self.page) as usize;
        let page = self.page(at)?;
        page.bytes
            .iter_mut()
            .skip(from)
            .zip(bytes)
            .for_each(|(to, from)| *to = *from);
        if page.changed.replace(stage).is_none() {
            self.changed += 1;
        }
        Ok(())
    }

    /// Reads a table's entry.
    pub(super) fn entry(&mut self, at: u64) -> io::Result<u64> {
        let mut entry = [0; 8];
        entry
            .iter_mut()
            .zip(self.bytes(at)?)
            .for_each(|(to, from)| *to = *from);
        Ok(u64::from_be_bytes(entry))
    }

    /// Changes a table's entry.
    pub(super) fn set_entry(&mut self, at: u64, value: u64, stage: Stage) -> io::Result<()> {
        self.change(at, &value.to_be_bytes(), stage)
    }

    /// Reads a refcount.
    pub(super) fn refcount(&mut self, bits: Bits) -> io::Result<u64> {
        Ok(refcount_in(self.bytes(bits.at)?, bits))
    }

    /// Changes a refcount.
    pub(super) fn set_refcount(&mut self, bits: Bits, value: u64) -> io::Result<()> {
        if bits.count >= 8 {
            let bytes = value.to_be_bytes();
            let len = (bits.count / 8) as usize;
            return self.change(
                bits.at,
                bytes.get(8 - len..).unwrap_or_default(),
                Stage::Refcounts,
            );
        }
        let mask = ((1u16 << bits.count) - 1) as u8;
        let byte = self.bytes(bits.at)?.first().copied().unwrap_or(0);
        let byte = byte & !(mask << bits.shift) | (value as u8 & mask) << bits.shift;
        self.change(bits.at, &[byte], Stage::Refcounts)
    }

    /// Forgets pages whose clusters are about to be used for something else.
    pub(super) fn forget(&mut self, clusters: std::ops::Range<u64>) {
        let changed = &mut self.changed;
        self.pages.retain(|at, page| {
            let keep = !clusters.contains(at);
            if !keep && page.changed.is_some() {
                *changed -= 1;
            }
            keep
        });
    }

    /// Writes all changes in an order that survives a power cut. When it returns, everything is durable, guest data
    /// that had been written before included. After an error all of it counts as not written.
    pub(super) fn write_back(&mut self) -> io::Result<()> {
        let mut changed: Vec<(Stage, u64)> = self
            .pages
            .iter()
            .filter_map(|(at, page)| Some((page.changed?, *at)))
            .collect();
        changed.sort_unstable();
        // Refcounts point to nothing, so only what comes after them needs what is before it.
        let mut stage = Stage::Refcounts;
        for (next, at) in &changed {
            if *next != stage {
                self.storage.sync()?;
                stage = *next;
            }
            if let Some(page) = self.pages.get(at) {
                self.storage.write_at(&page.bytes, *at)?;
            }
        }
        self.storage.sync()?;
        for page in self.pages.values_mut() {
            page.changed = None;
        }
        self.changed = 0;
        self.generation += 1;
        Ok(())
    }
}

/// The refcount at the start of `bytes`.
pub(super) fn refcount_in(bytes: &[u8], bits: Bits) -> u64 {
    if bits.count >= 8 {
        let len = (bits.count / 8) as usize;
        let bytes = bytes.get(..len).unwrap_or_default();
        return bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
    }
    let byte = bytes.first().copied().unwrap_or(0);
    u64::from(byte >> bits.shift) & ((1 << bits.count) - 1)
}
