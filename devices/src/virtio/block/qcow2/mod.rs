//! Disk images in the qcow2 format, versions 2 and 3, on backing files in raw or qcow2 format.
//!
//! [`Qcow2`] knows where things are: [`map_read`](Qcow2::map_read) and [`map_write`](Qcow2::map_write) say which bytes of
//! which file belong to a request, and the caller moves them as it likes, many at a time. What a new cluster needs
//! from its surroundings, and all work on tables, is done here at once. A new cluster becomes visible in the tables when its
//! data has been written ([`end_write`](Qcow2::end_write)), and reaches the disk with the next
//! [`write_back`](Qcow2::write_back), which is part of each flush; see [`tables`] for what that means for a power cut.
//!
//! The image is as hostile as the guest: every offset in it is checked where it is used, tables are read page by page
//! into a cache of fixed size, and a backing file is opened by the caller or not at all.
//!
//! Why not one of the crates for this format: imago holds up to 128 tables of two megabytes each in memory, orders its
//! metadata without barriers, and holds locks while data is in flight, so that one thread cannot serve several writes;
//! the others bring an asynchronous runtime or do not write.

mod erase;
mod header;
mod layer;
mod mapping;
mod read;
mod refcounts;
mod resize;
mod storage;
mod tables;
mod write;

use std::io;
use std::sync::Arc;

pub use header::{BackingName, is_qcow2};
pub use layer::Layer;
pub use read::Source;
pub use storage::Storage;
pub use write::{Allocation, Target};

use header::Header;
use refcounts::Space;
use tables::Tables;

/// Why an image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Qcow2Error {
    /// Another kind of file.
    #[error("the file is no qcow2 image; use the format \"raw\" if that is what it is")]
    NotQcow2,
    /// Not one of the versions there are.
    #[error("the image has version {0} where 2 and 3 are known")]
    Version(u32),
    /// A field has a value that cannot be.
    #[error(
        "the image's {field} is {value}, which is not possible; the image is damaged or not meant to be used"
    )]
    Field {
        /// Name as in the specification.
        field: &'static str,
        /// Its value.
        value: String,
    },
    /// A feature that this program does not have.
    #[error("the image {0}, which is not supported; convert it with `qemu-img convert -O qcow2`")]
    Unsupported(&'static str),
    /// Its tables are not in order.
    #[error("the image {0}; repair it with `qemu-img check -r all`")]
    NeedsRepair(&'static str),
    /// The file cannot be read.
    #[error("cannot read the image")]
    Io(#[from] io::Error),
}

impl Qcow2Error {
    fn field(field: &'static str, value: impl ToString) -> Self {
        Self::Field {
            field,
            value: value.to_string(),
        }
    }
}

/// What an image says it stands on; the caller decides whether to believe it.
pub fn backing_name(storage: &dyn Storage) -> Result<Option<BackingName>, Qcow2Error> {
    Ok(Header::read(storage, false)?.backing)
}

/// An open image.
pub struct Qcow2 {
    /// The file's number, by which the caller knows it.
    file: usize,
    storage: Arc<dyn Storage>,
    header: Header,
    tables: Tables,
    space: Space,
    backing: Option<Box<Layer>>,
    /// Clusters that get their data at present.
    growing: Vec<Allocation>,
    /// The compressed cluster that was read last: its offset on the disk and what is in it.
    unpacked: Option<(u64, Vec<u8>)>,
}

impl Qcow2 {
    /// Opens the image in file number `file`, on top of `backing`, which is for the caller to choose.
    pub fn open(
        storage: Arc<dyn Storage>,
        file: usize,
        writable: bool,
        backing: Option<Layer>,
    ) -> Result<Self, Qcow2Error> {
        let header = Header::read(storage.as_ref(), writable)?;
        let mut file_len = storage.size()?;
        let whole = file_len.next_multiple_of(header.cluster());
        // Tools cut the last cluster off where its data ends. A reader takes what is missing for zeroes; a writer must
        // not have reads fail behind its own writes.
        if writable && whole > file_len {
            storage.grow(whole)?;
            file_len = whole;
        }
        Ok(Self {
            file,
            tables: Tables::new(storage.clone(), header.cluster()),
            space: Space {
                first_free: 1,
                fresh: whole,
                file_len,
                abandoned: Vec::new(),
            },
            storage,
            header,
            backing: backing.map(Box::new),
            growing: Vec::new(),
            unpacked: None,
        })
    }

    /// Bytes of the disk.
    pub fn size(&self) -> u64 {
        self.header.size
    }

    /// Bytes of a cluster, a power of two from 512.
    pub fn cluster(&self) -> u64 {
        self.header.cluster()
    }

    /// Whether a flush has to call [`write_back`](Self::write_back); otherwise it is enough to sync the file.
    pub fn needs_write_back(&self) -> bool {
        self.tables.is_changed()
    }

    /// Makes everything that was written durable: first data, then the tables that lead to it.
    pub fn write_back(&mut self) -> io::Result<()> {
        self.tables.write_back()?;
        self.free_abandoned();
        Ok(())
    }
}

#[cfg(test)]
#[path = "qcow2_tests.rs"]
mod tests;

#[cfg(test)]
mod hostile_tests;

#[cfg(test)]
mod power_cut_tests;

#[cfg(test)]
mod test_image;
