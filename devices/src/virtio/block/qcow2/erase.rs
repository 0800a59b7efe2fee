//! Discards and zeroes: mostly changes of the tables.

use super::Qcow2;
use super::mapping::Mapping;
use std::io;
use std::ops::Range;

/// Runs of clusters that wait for the tables to be written before they are free.
const ABANDONED_MAX: usize = 256;

/// What becomes of whole clusters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Their contents do not matter.
    Discard,
    /// They read as zero.
    Zero {
        /// And need no space.
        unmap: bool,
    },
}

impl Qcow2 {
    /// Whether [`discard`](Self::discard) and [`zero`](Self::zero) have to wait for a write that makes a cluster of
    /// the range. The caller also has to see to it that no data of the range is on its way.
    pub fn is_busy(&self, bytes: &Range<u64>) -> bool {
        self.free_of_growth(bytes.start, bytes.end - bytes.start) < bytes.end - bytes.start
    }

    /// The contents of these bytes are not needed any more. Whole clusters are given back.
    pub fn discard(&mut self, bytes: Range<u64>) -> io::Result<()> {
        let whole = self.whole_clusters(&bytes);
        // Version 2 cannot say that a cluster is zero, and the backing file's contents must not come back.
        if self.backing.is_some() && self.header.version < 3 {
            return Ok(());
        }
        self.change_clusters(whole, Fate::Discard)
    }

    /// These bytes read as zero from now on. Their space is given back if `unmap`.
    pub fn zero(&mut self, bytes: Range<u64>, unmap: bool) -> io::Result<()> {
        let whole = self.whole_clusters(&bytes);
        if whole.is_empty() {
            return self.zero_part(bytes);
        }
        self.zero_part(bytes.start..whole.start)?;
        // The last cluster of the disk is whole even if the disk ends within it.
        self.zero_part(whole.end.min(bytes.end)..bytes.end)?;
        match self.header.version < 3 && (self.backing.is_some() || !unmap) {
            true => self.write_zeroes(whole.start..whole.end.min(bytes.end)),
            false => self.change_clusters(whole, Fate::Zero { unmap }),
        }
    }

    /// The clusters that lie in a range as a whole, or as far as the disk goes.
    fn whole_clusters(&self, bytes: &Range<u64>) -> Range<u64> {
        let cluster = self.header.cluster();
        let start = bytes.start.next_multiple_of(cluster);
        let end = match bytes.end == self.header.size {
            true => bytes.end.next_multiple_of(cluster),
            false => bytes.end - bytes.end % cluster,
        };
        start..end.max(start)
    }

    /// Zeroes a part of one or two clusters.
    fn zero_part(&mut self, bytes: Range<u64>) -> io::Result<()> {
        let mut at = bytes.start;
        while at < bytes.end {
            let (mapping, len) = self.run(at, bytes.end - at)?;
            if !self.reads_zero(mapping) {
                self.write_zeroes(at..at + len)?;
            }
            at += len;
        }
        Ok(())
    }

    fn reads_zero(&self, mapping: Mapping) -> bool {
        match mapping {
            Mapping::Zero(_) => true,
            Mapping::Nowhere => self.backing.is_none(),
            _ => false,
        }
    }

    fn change_clusters(&mut self, whole: Range<u64>, fate: Fate) -> io::Result<()> {
        self.forget_unpacked(&whole);
        let mut at = whole.start;
        while at < whole.end {
            let (mapping, len) = self.run(at, whole.end - at)?;
            let end = at + len;
            let skip = match (mapping, fate) {
                (Mapping::Nowhere, Fate::Discard) => true,
                (Mapping::Zero(place), Fate::Discard | Fate::Zero { unmap: true }) => place.is_none(),
                (mapping, Fate::Zero { .. }) => self.reads_zero(mapping),
                _ => false,
            };
            while at < end && !skip {
                self.change_cluster(at, fate)?;
                at += self.header.cluster();
            }
            at = end;
            if self.space.abandoned.len() > ABANDONED_MAX {
                self.write_back()?;
            }
        }
        Ok(())
    }

    fn change_cluster(&mut self, at: u64, fate: Fate) -> io::Result<()> {
        self.prepare_l2(at)?;
        let new = match (self.mapping(at)?, fate) {
            // Keeps the place, so that a write finds it.
            (Mapping::Data(place), Fate::Zero { unmap: false }) if place.own => Mapping::Zero(Some(place)),
            _ if self.backing.is_some() => Mapping::Zero(None),
            _ => Mapping::Nowhere,
        };
        self.set_mapping(at, new)
    }
}
