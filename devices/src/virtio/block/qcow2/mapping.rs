//! Where the disk's clusters are (qcow2 specification, "Cluster mapping"): two levels of tables, read entry by entry.

use super::Qcow2;
use super::header::OFFSET_MAX;
use super::tables::Stage;
use std::io;
use std::ops::Range;

/// Offsets in the entries of all tables; the low bits have other meanings.
pub(super) const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// The table or cluster has one reference, so it may be written in place.
const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;
/// The cluster reads as zero, wherever it is (version 3).
const ZERO: u64 = 1;
/// Clusters looked at for one run: 128 MiB of an image with clusters of 64 KiB.
const RUN_MAX: u64 = 2048;

/// Where a cluster of the disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mapping {
    /// In the backing file, or it reads as zero.
    Nowhere,
    /// It reads as zero; a place in the file may be reserved for it.
    Zero(Option<Place>),
    /// At this place in the file.
    Data(Place),
    /// Compressed, in these bytes of the file.
    Compressed { at: u64, len: u64 },
}

/// A cluster of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) at: u64,
    /// Whether no snapshot uses it, too.
    pub(super) own: bool,
}

impl Mapping {
    fn parse(entry: u64, cluster_bits: u32, version: u32) -> Self {
        if entry & COMPRESSED != 0 {
            // The upper bits have the number of further sectors of 512 bytes, more of them the larger clusters are.
            let offset_bits = 62 - (cluster_bits - 8);
            let descriptor = entry & (COMPRESSED - 1);
            let at = descriptor & ((1 << offset_bits) - 1);
            let sectors = (descriptor >> offset_bits) + 1;
            return Mapping::Compressed {
                at,
                len: sectors * 512 - at % 512,
            };
        }
        let place = (entry & OFFSET != 0).then_some(Place {
            at: entry & OFFSET,
            own: entry & COPIED != 0,
        });
        match (place, version >= 3 && entry & ZERO != 0) {
            (place, true) => Mapping::Zero(place),
            (Some(place), false) => Mapping::Data(place),
            (None, false) => Mapping::Nowhere,
        }
    }

    fn entry(self) -> u64 {
        let place = |place: Place| place.at | if place.own { COPIED } else { 0 };
        match self {
            Mapping::Nowhere => 0,
            Mapping::Zero(None) => ZERO,
            Mapping::Zero(Some(at)) => place(at) | ZERO,
            Mapping::Data(at) => place(at),
            // Never written by this program.
            Mapping::Compressed { .. } => 0,
        }
    }

    /// Whether `next`, `distance` bytes further on the disk, goes on where this is.
    fn continues(self, next: Self, distance: u64) -> bool {
        match (self, next) {
            (Mapping::Nowhere, Mapping::Nowhere) | (Mapping::Zero(_), Mapping::Zero(_)) => true,
            (Mapping::Data(first), Mapping::Data(next)) => {
                first.own == next.own && first.at.checked_add(distance) == Some(next.at)
            }
            _ => false,
        }
    }

    /// The bytes of the file that are of no use without this mapping.
    pub(super) fn bytes(self, cluster: u64) -> Option<Range<u64>> {
        match self {
            Mapping::Nowhere | Mapping::Zero(None) => None,
            Mapping::Zero(Some(place)) | Mapping::Data(place) => Some(place.at..place.at + cluster),
            Mapping::Compressed { at, len } => Some(at..at + len),
        }
    }
}

impl Qcow2 {
    pub(super) fn check_offset(&self, offset: u64, what: &str) -> io::Result<u64> {
        match offset.is_multiple_of(self.header.cluster()) && offset <= OFFSET_MAX {
            true => Ok(offset),
            false => Err(invalid(format!(
                "the image has {what} at {offset:#x}, within a cluster"
            ))),
        }
    }

    /// Offset of the entry of the L1 table for a byte of the disk.
    fn l1_entry(&self, offset: u64) -> u64 {
        self.header.l1_offset + offset / (self.header.cluster() * self.header.l2_entries()) * 8
    }

    fn l2_index(&self, offset: u64) -> u64 {
        (offset >> self.header.cluster_bits) % self.header.l2_entries()
    }

    /// Offset of the L2 table for a byte of the disk, if there is one, and whether it may be changed.
    fn l2_table(&mut self, offset: u64) -> io::Result<Option<(u64, bool)>> {
        let entry = self.tables.entry(self.l1_entry(offset))?;
        match self.check_offset(entry & OFFSET, "an L2 table")? {
            0 => Ok(None),
            table => Ok(Some((table, entry & COPIED != 0))),
        }
    }

    fn mapping_in(&mut self, table: u64, index: u64) -> io::Result<Mapping> {
        let entry = self.tables.entry(table + index * 8)?;
        let mapping = Mapping::parse(entry, self.header.cluster_bits, self.header.version);
        if let Mapping::Zero(Some(place)) | Mapping::Data(place) = mapping {
            self.check_offset(place.at, "a cluster of data")?;
        }
        Ok(mapping)
    }

    /// Where the cluster with this byte of the disk is.
    pub(super) fn mapping(&mut self, offset: u64) -> io::Result<Mapping> {
        let index = self.l2_index(offset);
        match self.l2_table(offset)? {
            None => Ok(Mapping::Nowhere),
            Some((table, _)) => self.mapping_in(table, index),
        }
    }

    /// Where the cluster with this byte is, and for how many bytes from there, `len` at most, it goes on like that.
    pub(super) fn run(&mut self, offset: u64, len: u64) -> io::Result<(Mapping, u64)> {
        let cluster = self.header.cluster();
        let in_cluster = offset % cluster;
        let index = self.l2_index(offset);
        let most = (in_cluster + len)
            .div_ceil(cluster)
            .min(self.header.l2_entries() - index)
            .min(RUN_MAX);
        let mut count = most;
        let mut first = Mapping::Nowhere;
        if let Some((table, _)) = self.l2_table(offset)? {
            first = self.mapping_in(table, index)?;
            count = 1;
            while count < most && first.continues(self.mapping_in(table, index + count)?, count * cluster) {
                count += 1;
            }
        }
        Ok((first, (count * cluster - in_cluster).min(len)))
    }

    /// Makes sure that there is an L2 table for this byte and that it may be changed.
    pub(super) fn prepare_l2(&mut self, offset: u64) -> io::Result<()> {
        let old = match self.l2_table(offset)? {
            Some((_, true)) => return Ok(()),
            Some((shared, false)) => Some(shared),
            None => None,
        };
        let table = self.take_table_cluster()?;
        let page = self.tables.page_len();
        if let Some(old) = old {
            for from in (old..old + self.header.cluster()).step_by(page as usize) {
                let bytes = self.tables.bytes(from)?.to_vec();
                self.storage.write_at(&bytes, table + from - old)?;
            }
        }
        let entry = self.l1_entry(offset);
        self.tables.set_entry(entry, table | COPIED, Stage::L1)?;
        if let Some(old) = old {
            self.abandon(old..old + self.header.cluster());
        }
        Ok(())
    }

    /// Changes where a cluster of the disk is, and abandons where it was. Its L2 table has been prepared.
    pub(super) fn set_mapping(&mut self, offset: u64, new: Mapping) -> io::Result<()> {
        let index = self.l2_index(offset);
        let (table, _) = self
            .l2_table(offset)?
            .ok_or_else(|| invalid("an L2 table is gone".to_owned()))?;
        let old = self.mapping_in(table, index)?;
        self.tables.set_entry(table + index * 8, new.entry(), Stage::L2)?;
        let cluster = self.header.cluster();
        let (old, new) = (old.bytes(cluster), new.bytes(cluster));
        if let Some(old) = old.filter(|old| Some(old) != new.as_ref()) {
            self.abandon(old);
        }
        Ok(())
    }
}

pub(super) fn invalid(problem: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}
