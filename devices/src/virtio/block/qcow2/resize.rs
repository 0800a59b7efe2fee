//! A disk that becomes larger while it is in use.

use super::Qcow2;
use super::header::FIELD_SIZE;
use std::io;

impl Qcow2 {
    /// Makes the disk larger. The new part reads as zero. When it returns, that is durable.
    pub fn grow(&mut self, size: u64) -> io::Result<()> {
        let old = self.header.size;
        if size < old || !self.growing.is_empty() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let entries = self
            .header
            .l1_entries_for(size)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        if entries > self.header.l1_entries {
            self.grow_l1(entries)?;
        }
        // What lies behind the old end: the rest of its cluster, and what a longer backing file has there.
        let rest = old.next_multiple_of(self.header.cluster());
        let hidden = self.backing.as_ref().map_or(0, |backing| backing.size());
        let end = rest.max(hidden).min(size);
        if end > old {
            self.zero(old..end, true)?;
        }
        self.write_back()?;
        self.write_size(size)?;
        self.header.size = size;
        Ok(())
    }

    /// Writes size, L1 length and L1 offset, which lie side by side and within one sector.
    fn write_size(&self, size: u64) -> io::Result<()> {
        let mut fields = size.to_be_bytes().to_vec();
        // No encryption.
        fields.extend([0; 4]);
        fields.extend((self.header.l1_entries as u32).to_be_bytes());
        fields.extend(self.header.l1_offset.to_be_bytes());
        self.storage.write_at(&fields, FIELD_SIZE)?;
        self.storage.sync()
    }

    fn grow_l1(&mut self, entries: u64) -> io::Result<()> {
        let cluster = self.header.cluster();
        let wanted = (entries * 8).div_ceil(cluster);
        let (table, taken) = self.take_row(wanted)?;
        let len = taken * cluster;
        self.clear_clusters(table..table + len)?;
        let (old, old_len) = (self.header.l1_offset, self.header.l1_entries * 8);
        let page = self.tables.page_len();
        for from in (0..old_len).step_by(page as usize) {
            let mut bytes = self.tables.bytes(old + from)?.to_vec();
            // Behind the table, within its last page, anything may be.
            bytes.truncate((old_len - from).min(page) as usize);
            self.storage.write_at(&bytes, table + from)?;
        }
        self.write_back()?;
        self.header.l1_offset = table;
        self.header.l1_entries = entries;
        self.write_size(self.header.size)?;
        if old_len > 0 {
            let end = old + old_len.next_multiple_of(cluster);
            self.tables.forget(old..end);
            self.abandon(old..end);
        }
        Ok(())
    }

    /// Takes exactly this many clusters in a row, at the end of the file.
    fn take_row(&mut self, count: u64) -> io::Result<(u64, u64)> {
        let first_free = self.space.first_free;
        let mut at = self.space.file_len.div_ceil(self.header.cluster());
        // A block of refcounts may begin in the midst of the first attempt.
        for _ in 0..2 {
            self.space.first_free = at;
            let (offset, got) = self.take_clusters(count)?;
            if got == count {
                self.space.first_free = first_free.min(self.space.first_free);
                return Ok((offset, got));
            }
            at = (offset >> self.header.cluster_bits) + got;
            self.release(offset >> self.header.cluster_bits..at);
        }
        self.space.first_free = first_free;
        let problem = format!(
            "the image has clusters of {} bytes, which are too small for a disk of that size",
            self.header.cluster()
        );
        Err(io::Error::new(io::ErrorKind::InvalidInput, problem))
    }
}
