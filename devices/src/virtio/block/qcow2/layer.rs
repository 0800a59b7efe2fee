//! What a disk can stand on: a raw file or another image.

use super::read::Source;
use super::{Qcow2, Storage};
use std::io;
use std::sync::Arc;

/// A raw file or an image, for reading.
pub enum Layer {
    /// A raw file.
    Raw {
        /// Its number, by which the caller knows it.
        file: usize,
        /// The file.
        storage: Arc<dyn Storage>,
        /// Its length when it was opened.
        len: u64,
    },
    /// An image.
    Qcow2(Box<Qcow2>),
}

impl Layer {
    /// Takes an open raw file.
    pub fn raw(file: usize, storage: Arc<dyn Storage>) -> io::Result<Self> {
        let len = storage.size()?;
        Ok(Self::Raw { file, storage, len })
    }

    /// Bytes of the disk.
    pub fn size(&self) -> u64 {
        match self {
            Layer::Raw { len, .. } => *len,
            Layer::Qcow2(image) => image.size(),
        }
    }

    /// Where the bytes from `offset` are; beyond the end there are zeroes.
    pub(super) fn map_read(&mut self, offset: u64, len: u64) -> io::Result<Source<'_>> {
        let left = match self.size().checked_sub(offset) {
            None | Some(0) => return Ok(Source::Zero { len }),
            Some(left) => left.min(len),
        };
        match self {
            Layer::Raw { file, storage, .. } => Ok(Source::File {
                file: *file,
                storage: &**storage,
                offset,
                len: left,
            }),
            Layer::Qcow2(image) => image.map_read(offset, left),
        }
    }
}
