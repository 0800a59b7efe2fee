//! Where the bytes are that a read asks for.

use super::mapping::{Mapping, invalid};
use super::{Qcow2, Storage};
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};
use std::io;
use std::ops::Range;

/// Where the next bytes are.
pub enum Source<'a> {
    /// In a file.
    File {
        /// Its number.
        file: usize,
        /// The file.
        storage: &'a dyn Storage,
        /// From where on.
        offset: u64,
        /// How many; at least one.
        len: u64,
    },
    /// They are zero.
    Zero {
        /// How many.
        len: u64,
    },
    /// Here: they were compressed.
    Bytes(&'a [u8]),
}

impl Source<'_> {
    /// How many bytes there are.
    pub fn len(&self) -> u64 {
        match self {
            Source::File { len, .. } | Source::Zero { len } => *len,
            Source::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// Whether there are none, which is so for no request of any length.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Qcow2 {
    /// Where the bytes from `offset` are, `len` at most. The range lies within the disk.
    pub fn map_read(&mut self, offset: u64, len: u64) -> io::Result<Source<'_>> {
        let (mapping, len) = self.run(offset, len)?;
        match mapping {
            Mapping::Nowhere => match &mut self.backing {
                Some(backing) => backing.map_read(offset, len),
                None => Ok(Source::Zero { len }),
            },
            Mapping::Zero(_) => Ok(Source::Zero { len }),
            Mapping::Data(place) => {
                let at = place.at + offset % self.header.cluster();
                match self.space.file_len.saturating_sub(at) {
                    0 => Ok(Source::Zero { len }),
                    left => Ok(Source::File {
                        file: self.file,
                        storage: &*self.storage,
                        offset: at,
                        len: len.min(left),
                    }),
                }
            }
            Mapping::Compressed { at, len: packed } => {
                let from = offset % self.header.cluster();
                let bytes = self.unpack(offset - from, at, packed)?;
                let end = (from + len).min(bytes.len() as u64);
                Ok(Source::Bytes(
                    bytes.get(from as usize..end as usize).unwrap_or_default(),
                ))
            }
        }
    }

    /// Reads here and now. Beyond the end of the disk there are zeroes.
    pub(super) fn read(&mut self, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            let wanted = bytes.len() as u64;
            let source = match self.header.size.checked_sub(offset) {
                None | Some(0) => Source::Zero { len: wanted },
                Some(left) => self.map_read(offset, wanted.min(left))?,
            };
            let len = source.len();
            let (here, rest) = bytes.split_at_mut(len.min(wanted) as usize);
            match source {
                Source::File { storage, offset, .. } => {
                    let read = storage.read_at(here, offset)?;
                    here.iter_mut().skip(read).for_each(|byte| *byte = 0);
                }
                Source::Zero { .. } => here.fill(0),
                Source::Bytes(from) => here.copy_from_slice(from.get(..here.len()).unwrap_or_default()),
            }
            (bytes, offset) = (rest, offset + len);
        }
        Ok(())
    }

    /// The contents of the compressed cluster at `offset` of the disk.
    fn unpack(&mut self, offset: u64, at: u64, packed: u64) -> io::Result<&[u8]> {
        let known = self.unpacked.take().filter(|(of, _)| *of == offset);
        let bytes = match known {
            Some((_, bytes)) => bytes,
            None => {
                // Both are a few clusters at most.
                let mut input = vec![0; packed as usize];
                let len = self.storage.read_at(&mut input, at)?;
                let mut output = vec![0; self.header.cluster() as usize];
                let mut inflater = Box::<DecompressorOxide>::default();
                let input = input.get(..len).unwrap_or_default();
                let flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
                let (_, _, written) = decompress(&mut inflater, input, &mut output, 0, flags);
                // The input may go on with other clusters, but the output must be a whole one.
                if written != output.len() {
                    return Err(invalid(format!("the compressed cluster at {at:#x} is damaged")));
                }
                output
            }
        };
        Ok(&self.unpacked.insert((offset, bytes)).1)
    }

    /// Forgets what was unpacked, if it is of one of these clusters, which change.
    pub(super) fn forget_unpacked(&mut self, clusters: &Range<u64>) {
        self.unpacked.take_if(|(of, _)| clusters.contains(of));
    }
}
