//! Where the bytes of a write go: into the clusters that are there, or into new ones, which get what surrounds the
//! write from where it was before.

use super::Qcow2;
use super::mapping::{Mapping, Place};
use std::io;
use std::ops::Range;

/// Bytes copied at once around a write.
const COPY: usize = 64 * 1024;

/// Clusters of the disk that get their data at present. Nothing of them is visible until [`Qcow2::end_write`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocation {
    /// Where they are on the disk, whole clusters.
    disk: Range<u64>,
    /// Where they are in the file.
    at: u64,
    /// Whether they were taken for this, and are to be given back if it comes to nothing.
    taken: bool,
}

/// Where the next bytes of a write go.
#[derive(Debug, PartialEq, Eq)]
pub enum Target {
    /// Into the image's file.
    File {
        /// From where on.
        offset: u64,
        /// How many; at least one.
        len: u64,
        /// To be given to [`Qcow2::end_write`] when they are there, or are not coming.
        allocation: Option<Allocation>,
    },
    /// Nowhere yet: another write makes a cluster of the range. Ask again when one has ended.
    Busy,
}

impl Qcow2 {
    /// How many bytes from `offset` on have nothing to do with a cluster that is being made, `len` at most.
    pub(super) fn free_of_growth(&self, offset: u64, len: u64) -> u64 {
        let mut end = offset + len;
        for growing in &self.growing {
            if growing.disk.end > offset && growing.disk.start < end {
                end = growing.disk.start.max(offset);
            }
        }
        end - offset
    }

    /// Where the bytes from `offset` go, `len` at most. The range lies within the disk.
    pub fn map_write(&mut self, offset: u64, len: u64) -> io::Result<Target> {
        let len = self.free_of_growth(offset, len);
        if len == 0 {
            return Ok(Target::Busy);
        }
        let (mapping, len) = self.run(offset, len)?;
        let cluster = self.header.cluster();
        let in_cluster = offset % cluster;
        if let Mapping::Data(Place { at, own: true }) = mapping {
            let (offset, allocation) = (at + in_cluster, None);
            return Ok(Target::File {
                offset,
                len,
                allocation,
            });
        }
        self.prepare_l2(offset)?;
        let wanted = (in_cluster + len).div_ceil(cluster);
        let (at, count, taken) = match mapping {
            Mapping::Zero(Some(Place { at, own: true })) => (at, 1, false),
            _ => {
                let (at, count) = self.take_clusters(wanted)?;
                (at, count, true)
            }
        };
        let len = len.min(count * cluster - in_cluster);
        let start = offset - in_cluster;
        let allocation = Allocation {
            disk: start..start + count * cluster,
            at,
            taken,
        };
        let fresh = self.use_fresh(at..at + count * cluster);
        let nothing = match mapping {
            Mapping::Zero(_) => true,
            Mapping::Nowhere => self.backing.is_none(),
            _ => false,
        };
        // Where both old contents and new clusters are zero there is nothing to do.
        if !(fresh && nothing) {
            let around = [start..offset, offset + len..allocation.disk.end];
            for range in around {
                if let Err(error) = self.copy(range, &allocation, fresh) {
                    self.give_back(&allocation);
                    return Err(error);
                }
            }
        }
        self.growing.push(allocation.clone());
        Ok(Target::File {
            offset: at + in_cluster,
            len,
            allocation: Some(allocation),
        })
    }

    /// Copies what the disk has in a range to the clusters that will be there.
    fn copy(&mut self, range: Range<u64>, to: &Allocation, fresh: bool) -> io::Result<()> {
        let mut buffer = vec![0; COPY.min((range.end - range.start) as usize)];
        let mut from = range.start;
        while from < range.end {
            let len = (range.end - from).min(buffer.len() as u64);
            let bytes = buffer.get_mut(..len as usize).unwrap_or_default();
            self.read(bytes, from)?;
            if !fresh || bytes.iter().any(|byte| *byte != 0) {
                self.storage.write_at(bytes, to.at + (from - to.disk.start))?;
            }
            from += len;
        }
        Ok(())
    }

    /// Ends a write into new clusters: they become visible, or, if the data did not arrive, are given back.
    pub fn end_write(&mut self, allocation: &Allocation, written: bool) -> io::Result<()> {
        self.growing.retain(|growing| growing != allocation);
        if !written {
            self.give_back(allocation);
            return Ok(());
        }
        self.forget_unpacked(&allocation.disk);
        let cluster = self.header.cluster();
        for offset in allocation.disk.clone().step_by(cluster as usize) {
            let at = allocation.at + (offset - allocation.disk.start);
            self.set_mapping(offset, Mapping::Data(Place { at, own: true }))?;
        }
        Ok(())
    }

    fn give_back(&mut self, allocation: &Allocation) {
        if allocation.taken {
            let bits = self.header.cluster_bits;
            let len = allocation.disk.end - allocation.disk.start;
            self.release(allocation.at >> bits..(allocation.at + len) >> bits);
        }
    }

    /// Writes zeroes here and now, as far as nothing else makes a cluster of the range. Returns how many bytes.
    pub(super) fn write_zeroes(&mut self, bytes: Range<u64>) -> io::Result<()> {
        let mut at = bytes.start;
        while at < bytes.end {
            let Target::File {
                offset,
                len,
                allocation,
            } = self.map_write(at, bytes.end - at)?
            else {
                return Err(io::ErrorKind::WouldBlock.into());
            };
            let zeroed = self.storage.zero(offset..offset + len);
            if let Some(allocation) = allocation {
                self.end_write(&allocation, zeroed.is_ok())?;
            }
            zeroed?;
            at += len;
        }
        Ok(())
    }
}
