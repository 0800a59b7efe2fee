//! The first cluster of an image (qcow2 specification, "Header" and "Header extensions"): where its tables are, what
//! it stands on, and what a reader must know to read it.

use super::Qcow2Error;
use super::storage::Storage;

/// "QFI" and 0xfb.
const MAGIC: u32 = 0x5146_49fb;
/// Bytes of a version 2 header.
const LEN_V2: usize = 72;
/// Least bytes of a version 3 header.
const LEN_V3: usize = 104;
/// Cluster sizes that QEMU supports: 512 bytes to 2 MiB.
const CLUSTER_BITS: std::ops::RangeInclusive<u32> = 9..=21;
/// Host offsets have 56 bits.
pub(super) const OFFSET_MAX: u64 = (1 << 56) - 1;
/// The most bytes of the L1 table, as in QEMU. It is read piece by piece, so this only keeps arithmetic small.
const L1_BYTES_MAX: u64 = 32 << 20;
/// The most bytes of the refcount table, as in QEMU.
pub(super) const REFCOUNT_TABLE_BYTES_MAX: u64 = 8 << 20;
/// Longest name of a backing file.
const BACKING_NAME_MAX: u32 = 1023;

/// Offsets of the fields that change while an image is in use.
pub(super) const FIELD_SIZE: u64 = 24;
pub(super) const FIELD_REFCOUNT_TABLE: u64 = 48;
const FIELD_AUTOCLEAR: u64 = 88;

/// Incompatible features.
const DIRTY: u64 = 1;
const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA: u64 = 1 << 2;
const COMPRESSION_TYPE: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;

/// Header extensions.
const EXTENSION_END: u32 = 0;
const EXTENSION_BACKING_FORMAT: u32 = 0xe279_2aca;

/// What an image says it stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackingName {
    /// The file, relative to the image's folder unless it is absolute.
    pub file: String,
    /// `raw`, `qcow2` or others; images by old tools do not say.
    pub format: Option<String>,
}

/// What the header says, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) cluster_bits: u32,
    /// Bytes of the virtual disk.
    pub(super) size: u64,
    pub(super) l1_offset: u64,
    pub(super) l1_entries: u64,
    pub(super) refcount_table_offset: u64,
    pub(super) refcount_table_clusters: u64,
    /// Refcounts have `1 << refcount_order` bits.
    pub(super) refcount_order: u32,
    pub(super) backing: Option<BackingName>,
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    let mut field = [0; 4];
    field
        .iter_mut()
        .zip(bytes.get(at..).unwrap_or_default())
        .for_each(|(to, from)| *to = *from);
    u32::from_be_bytes(field)
}

fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from(be32(bytes, at)) << 32 | u64::from(be32(bytes, at + 4))
}

/// Whether a file begins like an image of this format.
pub fn is_qcow2(bytes: &[u8]) -> bool {
    be32(bytes, 0) == MAGIC
}

impl Header {
    /// Reads and checks the header. A writable image is told that what this program does not know of was not kept.
    pub(super) fn read(storage: &dyn Storage, writable: bool) -> Result<Self, Qcow2Error> {
        let mut bytes = [0; LEN_V3];
        let len = storage.read_at(&mut bytes, 0)?;
        let header = Self::parse(bytes.get(..len).unwrap_or_default(), storage, writable)?;
        // Bitmaps and whatever else could be derived from the disk's contents get stale once we write.
        if writable && header.version == 3 && be64(&bytes, FIELD_AUTOCLEAR as usize) != 0 {
            storage.write_at(&[0; 8], FIELD_AUTOCLEAR)?;
            storage.sync()?;
        }
        Ok(header)
    }

    fn parse(bytes: &[u8], storage: &dyn Storage, writable: bool) -> Result<Self, Qcow2Error> {
        let version = be32(bytes, 4);
        if !is_qcow2(bytes) || bytes.len() < LEN_V2 {
            return Err(Qcow2Error::NotQcow2);
        }
        let (features, refcount_order, header_len) = match version {
            2 => (0, 4, LEN_V2 as u64),
            3 if bytes.len() >= LEN_V3 => (be64(bytes, 72), be32(bytes, 96), u64::from(be32(bytes, 100))),
            _ => return Err(Qcow2Error::Version(version)),
        };
        check_features(features, writable)?;
        if be32(bytes, 32) != 0 {
            return Err(Qcow2Error::Unsupported("is encrypted"));
        }
        let cluster_bits = be32(bytes, 20);
        if !CLUSTER_BITS.contains(&cluster_bits) {
            return Err(Qcow2Error::field("cluster_bits", cluster_bits));
        }
        if refcount_order > 6 {
            return Err(Qcow2Error::field("refcount_order", refcount_order));
        }
        let cluster = 1u64 << cluster_bits;
        let header = Self {
            version,
            cluster_bits,
            size: be64(bytes, FIELD_SIZE as usize),
            l1_offset: be64(bytes, 40),
            l1_entries: u64::from(be32(bytes, 36)),
            refcount_table_offset: be64(bytes, FIELD_REFCOUNT_TABLE as usize),
            refcount_table_clusters: u64::from(be32(bytes, 56)),
            refcount_order,
            backing: None,
        };
        for (field, offset) in [
            ("l1_table_offset", header.l1_offset),
            ("refcount_table_offset", header.refcount_table_offset),
        ] {
            // The header itself is at 0; only an empty disk has no table.
            let missing = offset == 0 && (header.size > 0 || field == "refcount_table_offset");
            if missing || offset % cluster != 0 || offset > OFFSET_MAX {
                return Err(Qcow2Error::field(field, offset));
            }
        }
        if header.l1_entries < header.l1_entries_for(header.size)? {
            return Err(Qcow2Error::field("l1_size", header.l1_entries));
        }
        let table = header.refcount_table_clusters * cluster;
        if table == 0 || table > REFCOUNT_TABLE_BYTES_MAX.max(cluster) {
            return Err(Qcow2Error::field(
                "refcount_table_clusters",
                header.refcount_table_clusters,
            ));
        }
        if header_len < LEN_V2 as u64 || header_len > cluster {
            return Err(Qcow2Error::field("header_length", header_len));
        }
        let backing = header.read_backing(bytes, header_len, storage)?;
        Ok(Self { backing, ..header })
    }

    fn read_backing(
        &self,
        bytes: &[u8],
        header_len: u64,
        storage: &dyn Storage,
    ) -> Result<Option<BackingName>, Qcow2Error> {
        let (offset, len) = (be64(bytes, 8), be32(bytes, 16));
        if offset == 0 || len == 0 {
            return Ok(None);
        }
        let inside = offset
            .checked_add(u64::from(len))
            .is_some_and(|end| end <= self.cluster());
        if len > BACKING_NAME_MAX || !inside {
            return Err(Qcow2Error::field("backing_file_size", len));
        }
        let mut name = vec![0; len as usize];
        let read = storage.read_at(&mut name, offset)?;
        name.truncate(read);
        let file = String::from_utf8(name).map_err(|_| Qcow2Error::field("backing_file", "not UTF-8"))?;
        let format = self.backing_format(header_len, offset, storage)?;
        Ok(Some(BackingName { file, format }))
    }

    /// Looks through the extensions, which lie between the header and the backing file's name.
    fn backing_format(
        &self,
        header_len: u64,
        end: u64,
        storage: &dyn Storage,
    ) -> Result<Option<String>, Qcow2Error> {
        let mut at = header_len;
        // Each round advances by eight bytes at least, within one cluster.
        while at + 8 <= end {
            let mut start = [0; 8];
            storage.read_at(&mut start, at)?;
            let (kind, len) = (be32(&start, 0), u64::from(be32(&start, 4)));
            if kind == EXTENSION_END || at + 8 + len > end {
                break;
            }
            if kind == EXTENSION_BACKING_FORMAT && len <= 16 {
                let mut name = vec![0; len as usize];
                storage.read_at(&mut name, at + 8)?;
                return Ok(String::from_utf8(name).ok());
            }
            at += 8 + len.next_multiple_of(8);
        }
        Ok(None)
    }

    /// Bytes of a cluster.
    pub(super) fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Entries of an L2 table, which takes one cluster.
    pub(super) fn l2_entries(&self) -> u64 {
        self.cluster() / 8
    }

    /// How many entries of the L1 table a disk of `size` bytes needs.
    pub(super) fn l1_entries_for(&self, size: u64) -> Result<u64, Qcow2Error> {
        let entries = size.div_ceil(self.cluster() * self.l2_entries());
        match entries * 8 <= L1_BYTES_MAX && size <= OFFSET_MAX {
            true => Ok(entries),
            false => Err(Qcow2Error::field("size", size)),
        }
    }
}

fn check_features(features: u64, writable: bool) -> Result<(), Qcow2Error> {
    let known = DIRTY | CORRUPT | EXTERNAL_DATA | COMPRESSION_TYPE | EXTENDED_L2;
    // A dirty image has wrong refcounts, which a reader does not need.
    let problem = match if writable { features } else { features & !DIRTY } {
        0 => return Ok(()),
        bits if bits & !known != 0 => return Err(Qcow2Error::field("incompatible_features", bits)),
        bits if bits & CORRUPT != 0 => Qcow2Error::NeedsRepair("is marked corrupt"),
        bits if bits & DIRTY != 0 => {
            Qcow2Error::NeedsRepair("was not closed by a writer that defers refcounts")
        }
        bits if bits & EXTERNAL_DATA != 0 => Qcow2Error::Unsupported("has its data in an external file"),
        bits if bits & COMPRESSION_TYPE != 0 => {
            Qcow2Error::Unsupported("has clusters compressed by another method than zlib")
        }
        _ => Qcow2Error::Unsupported("has extended L2 entries"),
    };
    Err(problem)
}
