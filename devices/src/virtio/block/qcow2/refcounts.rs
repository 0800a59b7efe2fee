//! Which clusters of the file are in use (qcow2 specification, "Host cluster management"): taking free ones, and
//! giving up those that nothing refers to any more.

use super::Qcow2;
use super::header::{FIELD_REFCOUNT_TABLE, OFFSET_MAX, REFCOUNT_TABLE_BYTES_MAX};
use super::mapping::OFFSET;
use super::tables::{Bits, Stage, refcount_in};
use std::io;
use std::ops::Range;

/// How many clusters one search looks at before it gives up and takes the end of the file.
const SEARCH_MAX: u64 = 1 << 26;

/// Where free clusters are to be looked for, and what is about to become free.
pub(super) struct Space {
    /// No free cluster is before this one.
    pub(super) first_free: u64,
    /// Bytes from here on have never been in use and read as zero.
    pub(super) fresh: u64,
    /// Length of the file.
    pub(super) file_len: u64,
    /// Runs of clusters whose mapping is gone: with the generation of the tables at that time. They are free once the
    /// tables have been written after it.
    pub(super) abandoned: Vec<(u64, Range<u64>)>,
}

impl Qcow2 {
    /// How many refcounts a block has.
    fn per_block(&self) -> u64 {
        (self.header.cluster() * 8) >> self.header.refcount_order
    }

    fn bits(&self, block: u64, index: u64) -> Bits {
        let count = 1u32 << self.header.refcount_order;
        let bit = index * u64::from(count);
        Bits {
            at: block + bit / 8,
            shift: (bit % 8) as u32,
            count,
        }
    }

    /// Offset of the block that has a cluster's refcount; 0 if there is none yet.
    fn block_of(&mut self, cluster: u64) -> io::Result<u64> {
        let index = cluster / self.per_block();
        if index >= self.refcount_table_entries() {
            return Ok(0);
        }
        let entry = self.tables.entry(self.header.refcount_table_offset + index * 8)?;
        self.check_offset(entry & OFFSET, "a block of refcounts")
    }

    fn refcount_table_entries(&self) -> u64 {
        self.header.refcount_table_clusters * self.header.l2_entries()
    }

    fn refcount(&mut self, cluster: u64) -> io::Result<u64> {
        match self.block_of(cluster)? {
            0 => Ok(0),
            block => {
                let bits = self.bits(block, cluster % self.per_block());
                self.tables.refcount(bits)
            }
        }
    }

    /// Changes a cluster's refcount; its block exists.
    fn set_refcount(&mut self, cluster: u64, value: u64) -> io::Result<()> {
        let block = self.block_of(cluster)?;
        let bits = self.bits(block, cluster % self.per_block());
        self.tables.set_refcount(bits, value)
    }

    /// Takes up to `most` free clusters in a row. Returns where they begin in the file, and how many there are.
    pub(super) fn take_clusters(&mut self, most: u64) -> io::Result<(u64, u64)> {
        let first = loop {
            let found = self.find_free(self.space.first_free)?;
            self.space.first_free = found;
            if self.block_of(found)? != 0 {
                break found;
            }
            self.add_block(found)?;
        };
        let mut count = 0;
        // Not beyond the block, so that there is one for each of them.
        let room = self.per_block() - first % self.per_block();
        while count < most.min(room) && self.refcount(first + count)? == 0 {
            self.set_refcount(first + count, 1)?;
            count += 1;
        }
        self.space.first_free = first + count;
        self.grow_file((first + count) << self.header.cluster_bits)?;
        Ok((first << self.header.cluster_bits, count))
    }

    /// Takes one cluster for a table and fills it with zeroes on the disk.
    pub(super) fn take_table_cluster(&mut self) -> io::Result<u64> {
        let (at, _) = self.take_clusters(1)?;
        self.clear_clusters(at..at + self.header.cluster())?;
        Ok(at)
    }

    /// Makes clusters that were taken read as zero.
    pub(super) fn clear_clusters(&mut self, bytes: Range<u64>) -> io::Result<()> {
        self.tables.forget(bytes.clone());
        match self.use_fresh(bytes.clone()) {
            true => Ok(()),
            false => self.storage.zero(bytes),
        }
    }

    /// Whether these bytes were never in use and read as zero; from now on they are in use.
    pub(super) fn use_fresh(&mut self, bytes: Range<u64>) -> bool {
        let fresh = bytes.start >= self.space.fresh;
        self.space.fresh = self.space.fresh.max(bytes.end);
        fresh
    }

    /// Lets the file end no earlier than at `len`: reads of what was never written must not fail.
    fn grow_file(&mut self, len: u64) -> io::Result<()> {
        if len > OFFSET_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if len > self.space.file_len {
            self.storage.grow(len)?;
            self.space.file_len = len;
        }
        Ok(())
    }

    /// The first free cluster from `from` on.
    fn find_free(&mut self, from: u64) -> io::Result<u64> {
        let mut cluster = from;
        let per_page = (self.tables.page_len() * 8) >> self.header.refcount_order;
        while cluster - from < SEARCH_MAX {
            let block = self.block_of(cluster)?;
            if block == 0 {
                return Ok(cluster);
            }
            // One page of refcounts at a time.
            let first = self.bits(block, cluster % self.per_block());
            let (len, order) = (per_page - cluster % per_page, self.header.refcount_order);
            let bytes = self.tables.bytes(first.at)?;
            let free = (0..len).find(|index| {
                let bit = u64::from(first.shift) + (index << order);
                let at = bytes.get((bit / 8) as usize..).unwrap_or_default();
                let shift = (bit % 8) as u32;
                refcount_in(at, Bits { shift, ..first }) == 0
            });
            match free {
                Some(index) => return Ok(cluster + index),
                None => cluster += len,
            }
        }
        Ok(cluster.max(self.space.file_len.div_ceil(self.header.cluster())))
    }

    /// Adds a block of refcounts for `cluster`, in which it lies itself.
    fn add_block(&mut self, cluster: u64) -> io::Result<()> {
        let index = cluster / self.per_block();
        if index >= self.refcount_table_entries() {
            return self.grow_refcount_table(index);
        }
        let at = cluster << self.header.cluster_bits;
        let cluster_len = self.header.cluster();
        self.grow_file(at + cluster_len)?;
        self.clear_clusters(at..at + cluster_len)?;
        let bits = self.bits(at, cluster % self.per_block());
        self.tables.set_refcount(bits, 1)?;
        let entry = self.header.refcount_table_offset + index * 8;
        self.tables.set_entry(entry, at, Stage::RefcountTable)
    }

    /// Makes the refcount table long enough for block `index`, and half as long again. The new table lies behind
    /// everything else, together with the blocks for its own clusters.
    fn grow_refcount_table(&mut self, index: u64) -> io::Result<()> {
        let (bits, cluster) = (self.header.cluster_bits, self.header.cluster());
        let old = self.header.refcount_table_offset
            ..self.header.refcount_table_offset + self.header.refcount_table_clusters * cluster;
        let start = self
            .space
            .file_len
            .div_ceil(cluster)
            .max(index * self.per_block());
        // The table must reach the blocks that it needs itself; more of them than clusters of it there cannot be.
        let wanted = (start / self.per_block() + 2).max(index + 1);
        let clusters = (wanted * 3 / 2).div_ceil(self.header.l2_entries()) + 1;
        if clusters * cluster > REFCOUNT_TABLE_BYTES_MAX.max(2 * cluster) {
            return Err(io::Error::other(
                "the image's refcount table cannot grow any further",
            ));
        }
        let mut blocks = Vec::new();
        let mut end = start + clusters;
        let mut next = start;
        while next < end {
            if self.block_of(next)? == 0 {
                blocks.push((next / self.per_block(), end << bits));
                end += 1;
            }
            next = (next / self.per_block() + 1) * self.per_block();
        }
        self.grow_file(end << bits)?;
        self.clear_clusters(start << bits..end << bits)?;
        let table = start << bits;
        let page = self.tables.page_len();
        for at in old.clone().step_by(page as usize) {
            let bytes = self.tables.bytes(at)?.to_vec();
            self.storage.write_at(&bytes, table + at - old.start)?;
        }
        for (index, block) in &blocks {
            self.storage.write_at(&block.to_be_bytes(), table + index * 8)?;
        }
        for taken in start..end {
            let block = blocks
                .iter()
                .find(|(index, _)| *index == taken / self.per_block());
            let block = match block {
                Some((_, block)) => *block,
                None => self.block_of(taken)?,
            };
            let bits = self.bits(block, taken % self.per_block());
            self.tables.set_refcount(bits, 1)?;
        }
        // Everything the new table stands on, before the header names it: 8 bytes of offset, 4 of length.
        self.write_back()?;
        let mut field = table.to_be_bytes().to_vec();
        field.extend((clusters as u32).to_be_bytes());
        self.storage.write_at(&field, FIELD_REFCOUNT_TABLE)?;
        self.storage.sync()?;
        self.header.refcount_table_offset = table;
        self.header.refcount_table_clusters = clusters;
        self.tables.forget(old.clone());
        self.abandon(old);
        Ok(())
    }

    /// Notes that nothing in the tables refers to these bytes any more. They are free, one reference less, once the
    /// tables are durable.
    pub(super) fn abandon(&mut self, bytes: Range<u64>) {
        let bits = self.header.cluster_bits;
        let generation = self.tables.generation();
        let clusters = bytes.start >> bits..bytes.end.div_ceil(self.header.cluster());
        if let Some((last_generation, last)) = self.space.abandoned.last_mut()
            && *last_generation == generation
            && last.end == clusters.start
        {
            last.end = clusters.end;
            return;
        }
        self.space.abandoned.push((generation, clusters));
    }

    /// Frees what was abandoned before the tables were written last. A failure leaves clusters that nobody uses.
    pub(super) fn free_abandoned(&mut self) {
        let generation = self.tables.generation();
        let (free, rest) = std::mem::take(&mut self.space.abandoned)
            .into_iter()
            .partition(|(since, _)| *since < generation);
        self.space.abandoned = rest;
        for (_, clusters) in free {
            self.release(clusters);
        }
    }

    /// Takes one reference from each of these clusters, at once: neither the tables nor the disk have one to them.
    pub(super) fn release(&mut self, clusters: Range<u64>) {
        let bits = self.header.cluster_bits;
        let mut hole: Option<Range<u64>> = None;
        for cluster in clusters {
            let left = self
                .refcount(cluster)
                .and_then(|count| match count.checked_sub(1) {
                    Some(left) => self.set_refcount(cluster, left).map(|()| left),
                    // More references than the image counted: it is not in order, but nobody is worse off.
                    None => Ok(1),
                });
            match left {
                Ok(0) => {
                    self.space.first_free = self.space.first_free.min(cluster);
                    match &mut hole {
                        Some(hole) if hole.end == cluster << bits => hole.end += 1 << bits,
                        other => {
                            if let Some(hole) = other.replace(cluster << bits..(cluster + 1) << bits) {
                                self.punch(hole);
                            }
                        }
                    }
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, cluster, "cluster cannot be freed"),
            }
        }
        if let Some(hole) = hole {
            self.punch(hole);
        }
    }

    fn punch(&mut self, hole: Range<u64>) {
        self.tables.forget(hole.clone());
        // Only for the host's space: the clusters are cleared before they are used again, if need be.
        if let Err(error) = self.storage.punch(hole) {
            tracing::debug!(%error, "no hole can be made in the image");
        }
    }
}
