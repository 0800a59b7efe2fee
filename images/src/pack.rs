//! Packing an instance's tree as a unified image, for `publish` and `export`.

use std::collections::HashMap;
use std::fs::{self, File, Metadata as FileMetadata};
use std::io::{BufWriter, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use crate::compression::{Compression, Compressor};
use crate::error::{Error, Result};
use crate::inspect::hex;
use crate::metadata::Metadata;

/// A packed image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// SHA-256 of the file in hexadecimal.
    pub fingerprint: String,
    /// Bytes of the file.
    pub size: u64,
}

/// What goes into an image.
#[derive(Debug)]
pub struct PackSource<'a> {
    /// The tree that becomes `rootfs/`, or the raw disk that becomes `rootfs.img`.
    pub rootfs: &'a Path,
    /// What becomes `metadata.yaml`.
    pub metadata: &'a Metadata,
    /// The directory that becomes `templates/`.
    pub templates: Option<&'a Path>,
}

/// Packs `dir` with its `metadata.yaml`, `rootfs/` or `rootfs.img`, and `templates/` into the file `out`.
pub fn pack_unified(dir: &Path, out: &Path, compression: Compression) -> Result<Packed> {
    let metadata = dir.join("metadata.yaml");
    let text = fs::read(&metadata).map_err(Error::io("read", &metadata))?;
    let root = ["rootfs", "rootfs.img"]
        .map(|name| dir.join(name))
        .into_iter()
        .find(|path| path.exists());
    let root = root.ok_or_else(|| Error::invalid(dir, "it has neither rootfs nor rootfs.img"))?;
    let templates = dir.join("templates");
    let source = PackSource {
        rootfs: &root,
        metadata: &Metadata::from_yaml(&text)?,
        templates: templates.is_dir().then_some(templates.as_path()),
    };
    pack(&source, out, compression)
}

/// Packs parts that lie in different places. Sockets are left out: they mean nothing without the process that listens.
///
/// After an error there is no file `out`.
pub fn pack(source: &PackSource<'_>, out: &Path, compression: Compression) -> Result<Packed> {
    pack_into(source, out, compression).inspect_err(|_| {
        // The error that is reported is the first one.
        let _ = fs::remove_file(out);
    })
}

fn pack_into(source: &PackSource<'_>, out: &Path, compression: Compression) -> Result<Packed> {
    let failed = Error::io("write", out);
    let file = File::create(out).map_err(&failed)?;
    let writer = Hashing {
        inner: BufWriter::with_capacity(256 << 10, file),
        hash: Sha256::new(),
        size: 0,
    };
    let mut builder = Builder::new(Compressor::new(compression, writer).map_err(&failed)?);

    let text = source.metadata.to_yaml()?;
    let mut header = Header::new_gnu();
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(u64::try_from(source.metadata.creation_date).unwrap_or(0));
    header.set_size(text.len() as u64);
    builder
        .append_data(&mut header, "metadata.yaml", text.as_bytes())
        .map_err(&failed)?;
    let mut links = HashMap::new();
    if let Some(templates) = source.templates {
        append_tree(&mut builder, Path::new("templates"), templates, &mut links)?;
    }
    let root_name = if source.rootfs.is_dir() {
        "rootfs"
    } else {
        "rootfs.img"
    };
    append_tree(&mut builder, Path::new(root_name), source.rootfs, &mut links)?;

    let mut writer = builder
        .into_inner()
        .and_then(Compressor::finish)
        .map_err(&failed)?;
    writer.flush().map_err(&failed)?;
    let Hashing { inner, hash, size } = writer;
    let file = inner.into_inner().map_err(|err| failed(err.into_error()))?;
    file.sync_all().map_err(&failed)?;
    Ok(Packed {
        fingerprint: hex(&hash.finalize()),
        size,
    })
}

/// Names already packed, by the device and inode that have them.
type Links = HashMap<(u64, u64), PathBuf>;

fn append_tree<W: Write>(
    builder: &mut Builder<W>,
    name: &Path,
    path: &Path,
    links: &mut Links,
) -> Result<()> {
    let mut pending = vec![(name.to_owned(), path.to_owned())];
    while let Some((name, path)) = pending.pop() {
        let metadata = fs::symlink_metadata(&path).map_err(Error::io("read", &path))?;
        append(builder, &name, &path, &metadata, links)?;
        if metadata.is_dir() {
            let mut entries = Vec::new();
            for entry in fs::read_dir(&path).map_err(Error::io("list", &path))? {
                let entry = entry.map_err(Error::io("list", &path))?;
                entries.push((name.join(entry.file_name()), entry.path()));
            }
            // Reversed, since the last of the stack comes next: names come out sorted.
            entries.sort_by(|a, b| b.cmp(a));
            pending.extend(entries);
        }
    }
    Ok(())
}

fn append<W: Write>(
    builder: &mut Builder<W>,
    name: &Path,
    path: &Path,
    metadata: &FileMetadata,
    links: &mut Links,
) -> Result<()> {
    let failed = Error::io("pack", path);
    let kind = metadata.file_type();
    if kind.is_socket() {
        return Ok(());
    }
    let mut header = Header::new_gnu();
    header.set_metadata(metadata);
    header.set_size(0);
    if !metadata.is_dir() && metadata.nlink() > 1 {
        if let Some(first) = links.get(&(metadata.dev(), metadata.ino())) {
            header.set_entry_type(EntryType::Link);
            return builder.append_link(&mut header, name, first).map_err(&failed);
        }
        links.insert((metadata.dev(), metadata.ino()), name.to_owned());
    }
    append_xattrs(builder, path, &kind).map_err(&failed)?;
    if kind.is_symlink() {
        let target = fs::read_link(path).map_err(&failed)?;
        header.set_entry_type(EntryType::Symlink);
        return builder.append_link(&mut header, name, target).map_err(&failed);
    }
    if kind.is_file() {
        header.set_size(metadata.len());
        let file = File::open(path).map_err(&failed)?;
        // A file that shrinks while it is read would damage what follows: the rest is read as zeroes.
        let padded = std::io::Read::chain(file, std::io::repeat(0));
        return builder
            .append_data(&mut header, name, std::io::Read::take(padded, metadata.len()))
            .map_err(&failed);
    }
    if kind.is_char_device() || kind.is_block_device() {
        let (major, minor) = (
            nix::sys::stat::major(metadata.rdev()),
            nix::sys::stat::minor(metadata.rdev()),
        );
        header
            .set_device_major(u32::try_from(major).unwrap_or(0))
            .map_err(&failed)?;
        header
            .set_device_minor(u32::try_from(minor).unwrap_or(0))
            .map_err(&failed)?;
    }
    builder
        .append_data(&mut header, name, std::io::empty())
        .map_err(&failed)
}

/// Extended attributes go before the entry, as a pax header.
fn append_xattrs<W: Write>(
    builder: &mut Builder<W>,
    path: &Path,
    kind: &fs::FileType,
) -> std::io::Result<()> {
    if kind.is_symlink() {
        return Ok(());
    }
    let mut records = Vec::new();
    for key in xattr::list(path)? {
        let Some(key) = key.to_str().map(str::to_owned) else {
            continue;
        };
        if (key.starts_with("user.") || key == "security.capability" || key.starts_with("system.posix_acl_"))
            && let Some(value) = xattr::get(path, &key)?
        {
            records.push((format!("SCHILY.xattr.{key}"), value));
        }
    }
    if records.is_empty() {
        return Ok(());
    }
    builder.append_pax_extensions(
        records
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_slice())),
    )
}

struct Hashing<W> {
    inner: W,
    hash: Sha256,
    size: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.hash.update(&buffer[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}
