//! Compression formats, told by their first bytes and never by a name.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use liblzma::stream::{CONCATENATED, Stream};

use crate::error::{Error, Result};

/// An xz file says how much memory its decoder needs; `xz -9` makes ones that need 65 MiB.
const XZ_MEMORY_MAX: u64 = 256 << 20;

/// How an archive is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip (RFC 1952).
    #[default]
    Gzip,
    /// xz.
    Xz,
    /// Zstandard (RFC 8878).
    Zstd,
}

impl Compression {
    /// The format that Incus calls `name` (`gzip`, `xz`, `zstd`, `none`).
    pub fn by_name(name: &str) -> Option<Self> {
        match name {
            "none" => Some(Self::None),
            "gzip" => Some(Self::Gzip),
            "xz" => Some(Self::Xz),
            "zstd" => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Ending of a tar file's name in this format.
    pub fn tar_ending(self) -> &'static str {
        match self {
            Self::None => ".tar",
            Self::Gzip => ".tar.gz",
            Self::Xz => ".tar.xz",
            Self::Zstd => ".tar.zst",
        }
    }
}

/// What the first bytes of a file say it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Magic {
    Compressed(Compression),
    Squashfs,
    Qcow2,
    /// Something with a partition table.
    Disk,
    Unknown,
}

pub(crate) fn magic_of(path: &Path) -> Result<Magic> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let mut head = Vec::with_capacity(512);
    file.take(512)
        .read_to_end(&mut head)
        .map_err(Error::io("read", path))?;
    Ok(match head.as_slice() {
        [0x1f, 0x8b, ..] => Magic::Compressed(Compression::Gzip),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Magic::Compressed(Compression::Xz),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Magic::Compressed(Compression::Zstd),
        [b'h', b's', b'q', b's', ..] => Magic::Squashfs,
        [b'Q', b'F', b'I', 0xfb, ..] => Magic::Qcow2,
        head if head.get(257..262) == Some(b"ustar") => Magic::Compressed(Compression::None),
        head if head.get(510..512) == Some(&[0x55, 0xaa]) => Magic::Disk,
        _ => Magic::Unknown,
    })
}

/// Bytes of the compressed file that were read so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReadSoFar(Arc<AtomicU64>);

impl ReadSoFar {
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

struct Counted<R> {
    inner: R,
    count: ReadSoFar,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count.0.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// The tar stream in `path`, decompressed; with the count of bytes read of the file.
pub(crate) fn open_tar(path: &Path) -> Result<(Box<dyn Read>, ReadSoFar)> {
    let compression = match magic_of(path)? {
        Magic::Compressed(compression) => compression,
        _ => {
            return Err(Error::invalid(
                path,
                "it is no tar file, plain or compressed by gzip, xz or zstd",
            ));
        }
    };
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    file.seek(SeekFrom::Start(0)).map_err(Error::io("read", path))?;
    let count = ReadSoFar::default();
    let file = BufReader::with_capacity(
        256 << 10,
        Counted {
            inner: file,
            count: count.clone(),
        },
    );
    let stream: Box<dyn Read> = match compression {
        Compression::None => Box::new(file),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        Compression::Xz => {
            let stream = Stream::new_stream_decoder(XZ_MEMORY_MAX, CONCATENATED)
                .map_err(|err| Error::invalid(path, err))?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(file, stream))
        }
        Compression::Zstd => {
            Box::new(zstd::Decoder::with_buffer(file).map_err(Error::io("decompress", path))?)
        }
    };
    Ok((stream, count))
}

/// A writer that compresses, and is told when all is written.
pub(crate) enum Compressor<W: Write> {
    None(W),
    Gzip(flate2::write::GzEncoder<W>),
    Xz(liblzma::write::XzEncoder<W>),
    Zstd(zstd::Encoder<'static, W>),
}

impl<W: Write> Compressor<W> {
    pub(crate) fn new(compression: Compression, writer: W) -> std::io::Result<Self> {
        Ok(match compression {
            Compression::None => Self::None(writer),
            Compression::Gzip => Self::Gzip(flate2::write::GzEncoder::new(
                writer,
                flate2::Compression::default(),
            )),
            Compression::Xz => Self::Xz(liblzma::write::XzEncoder::new(writer, 6)),
            Compression::Zstd => Self::Zstd(zstd::Encoder::new(writer, 3)?),
        })
    }

    pub(crate) fn finish(self) -> std::io::Result<W> {
        match self {
            Self::None(writer) => Ok(writer),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Xz(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::None(writer) => writer.write(buffer),
            Self::Gzip(encoder) => encoder.write(buffer),
            Self::Xz(encoder) => encoder.write(buffer),
            Self::Zstd(encoder) => encoder.write(buffer),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::None(writer) => writer.flush(),
            Self::Gzip(encoder) => encoder.flush(),
            Self::Xz(encoder) => encoder.flush(),
            Self::Zstd(encoder) => encoder.flush(),
        }
    }
}
