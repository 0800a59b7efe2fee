//! What a disk is made of: one raw file, or an image in a file of its own and what it stands on. Says which bytes of
//! which file a transfer moves next.

use super::file::{Erase, HostFile, ZEROES};
use super::in_flight::{Piece, Transfer};
use super::qcow2::{Allocation, Layer, Qcow2, Qcow2Error, Source, Target};
use super::request::SECTOR;
use crate::memory::Ram;
use crate::virtio::buffer::IoVecs;
use serde::{Deserialize, Serialize};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How a file holds a disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// As it is.
    #[default]
    Raw,
    /// An image with tables of its own ([`qcow2`](super::qcow2)).
    Qcow2,
}

/// An open file of a disk.
#[derive(Debug)]
pub struct DiskFile {
    /// The file.
    pub file: HostFile,
    /// How it holds the disk.
    pub format: Format,
}

impl DiskFile {
    /// A raw file.
    pub fn raw(file: std::fs::File) -> io::Result<Self> {
        Ok(Self {
            file: HostFile::new(file)?,
            format: Format::Raw,
        })
    }
}

/// A disk. Several threads may work on a raw one, each with a [`share`](Self::share) of it.
pub(super) struct Disk {
    files: Arc<[Arc<HostFile>]>,
    image: Option<Box<Qcow2>>,
    size: Arc<AtomicU64>,
    /// Sizes are multiples of this.
    align: u64,
}

/// What a transfer comes to next.
pub(super) enum Next {
    /// Its piece has to be moved.
    Move,
    /// Some of it, which was in no file, has been done.
    Done,
    /// Another request has to end first.
    Wait,
}

impl Disk {
    /// Puts a disk together from its own file and, one below the other, those it stands on.
    pub(super) fn new(layers: Vec<DiskFile>, writable: bool) -> Result<Self, Qcow2Error> {
        let (formats, files): (Vec<_>, Vec<_>) = layers
            .into_iter()
            .map(|layer| (layer.format, Arc::new(layer.file)))
            .unzip();
        let mut below = None;
        let mut image = None;
        for (index, (format, file)) in formats.into_iter().zip(&files).enumerate().rev() {
            match format {
                // What is below a raw file is of no use.
                Format::Raw => below = Some(Layer::raw(index, file.clone())?),
                Format::Qcow2 => {
                    let opened = Qcow2::open(file.clone(), index, writable && index == 0, below.take())?;
                    match index {
                        0 => image = Some(Box::new(opened)),
                        _ => below = Some(Layer::Qcow2(Box::new(opened))),
                    }
                }
            }
        }
        let align = files.iter().map(|file| file.align()).max().unwrap_or(SECTOR);
        let size = match (&image, below) {
            (Some(image), _) => image.size(),
            (None, Some(layer)) => layer.size(),
            (None, None) => return Err(io::Error::from(io::ErrorKind::NotFound).into()),
        };
        Ok(Self {
            files: files.into(),
            image,
            size: Arc::new(AtomicU64::new(size - size % align)),
            align,
        })
    }

    /// Another thread's view of a raw disk.
    pub(super) fn share(&self) -> Option<Self> {
        match self.image {
            Some(_) => None,
            None => Some(Self {
                files: self.files.clone(),
                image: None,
                size: self.size.clone(),
                align: self.align,
            }),
        }
    }

    /// Number of bytes, a multiple of [`align`](Self::align).
    pub(super) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// What all requests should be aligned to: a power of two, [`SECTOR`] at least.
    pub(super) fn align(&self) -> u64 {
        self.align
    }

    pub(super) fn files(&self) -> &[Arc<HostFile>] {
        &self.files
    }

    /// The disk's own file.
    pub(super) fn own_file(&self) -> Option<&HostFile> {
        self.files.first().map(|file| &**file)
    }

    /// Bytes that are given back together: a cluster of an image, a page of a file.
    pub(super) fn cluster(&self) -> u64 {
        self.image.as_ref().map_or(4096, |image| image.cluster())
    }

    /// Whether the disk is a raw file, so that all work on it can be left to the host's kernel.
    pub(super) fn is_raw(&self) -> bool {
        self.image.is_none()
    }

    /// Finds out where the next bytes of a transfer are; they are its piece then.
    pub(super) fn next(&mut self, transfer: &mut Transfer, ram: &Ram) -> io::Result<Next> {
        let (offset, len) = (transfer.offset, transfer.data.len());
        let (file, offset, left, allocation) = match &mut self.image {
            None => (0, offset, len, None),
            Some(image) if transfer.write => match image.map_write(offset, len)? {
                Target::Busy => return Ok(Next::Wait),
                Target::File {
                    offset,
                    len,
                    allocation,
                } => (0, offset, len, allocation),
            },
            Some(image) => match image.map_read(offset, len)? {
                Source::File {
                    file, offset, len, ..
                } => (file, offset, len, None),
                here => return fill(transfer, here, ram).map(|()| Next::Done),
            },
        };
        transfer.piece = Some(Piece {
            file,
            offset,
            left,
            iovecs: IoVecs::new(),
            allocation,
        });
        Ok(Next::Move)
    }

    /// Tells an image whether the data of new clusters has arrived.
    pub(super) fn end_write(&mut self, allocation: &Allocation, written: bool) -> io::Result<()> {
        match &mut self.image {
            Some(image) => image.end_write(allocation, written),
            None => Ok(()),
        }
    }

    /// Whether a flush needs [`write_back`](Self::write_back) instead of a sync of the file.
    pub(super) fn needs_write_back(&self) -> bool {
        self.image.as_ref().is_some_and(|image| image.needs_write_back())
    }

    /// Makes everything durable, an image's tables included.
    pub(super) fn write_back(&mut self) -> io::Result<()> {
        match &mut self.image {
            Some(image) => image.write_back(),
            None => self.own_file().map_or(Ok(()), HostFile::flush),
        }
    }

    /// Whether an erasure of an image has to wait for a write that makes a cluster of it.
    pub(super) fn is_busy(&self, bytes: &Range<u64>) -> bool {
        self.image.as_ref().is_some_and(|image| image.is_busy(bytes))
    }

    /// Erases a range of an image.
    pub(super) fn erase_in_image(&mut self, erase: Erase, bytes: Range<u64>) -> io::Result<()> {
        match (&mut self.image, erase) {
            (None, _) => Ok(()),
            (Some(image), Erase::Discard) => image.discard(bytes),
            (Some(image), Erase::ZeroUnmap) => image.zero(bytes, true),
            (Some(image), Erase::Zero) => image.zero(bytes, false),
        }
    }

    /// Makes the disk larger, and its file with it where that is a regular one.
    pub(super) fn grow(&mut self, size: u64) -> io::Result<()> {
        match &mut self.image {
            Some(image) => image.grow(size)?,
            None => {
                if let Some(file) = self.own_file()
                    && file.size()? < size
                {
                    file.grow(size)?;
                }
            }
        }
        self.size.store(size, Ordering::Release);
        Ok(())
    }
}

/// Writes bytes that come from no file to guest memory.
fn fill(transfer: &mut Transfer, source: Source<'_>, ram: &Ram) -> io::Result<()> {
    let data = &mut transfer.data;
    transfer.offset += source.len();
    let result = match source {
        Source::Bytes(bytes) => data.write(ram, bytes),
        Source::Zero { mut len } => loop {
            let here = len.min(ZEROES.len() as u64) as usize;
            if here == 0 {
                break Ok(());
            }
            if let Err(error) = data.write(ram, ZEROES.get(..here).unwrap_or_default()) {
                break Err(error);
            }
            len -= here as u64;
        },
        Source::File { .. } => Ok(()),
    };
    result.map_err(io::Error::other)
}
