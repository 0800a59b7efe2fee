//! Images made by, used by and compared with QEMU's tools.

use super::{Allocation, BackingName, Layer, Qcow2, Source, Target, backing_name};
use crate::virtio::block::file::HostFile;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// Runs `qemu-img` and returns its exit status and what it printed.
pub(super) fn qemu_img(arguments: &[&str]) -> (i32, String) {
    let output = Command::new("qemu-img")
        .args(arguments)
        .output()
        .expect("qemu-img, of the package qemu-utils");
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

/// Has `qemu-io` change or read an image.
pub(super) fn qemu_io(path: &Path, commands: &[&str]) {
    let mut command = Command::new("qemu-io");
    for line in commands {
        command.args(["-c", line]);
    }
    let output = command.args(["-f", "qcow2"]).arg(path).output().expect("qemu-io");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

pub(super) fn open_file(path: &Path, writable: bool) -> Arc<HostFile> {
    let file = OpenOptions::new()
        .read(true)
        .write(writable)
        .open(path)
        .expect("an image");
    Arc::new(HostFile::new(file).expect("an image"))
}

/// Makes an image in a folder.
pub(super) fn create(folder: &Path, name: &str, arguments: &[&str]) -> PathBuf {
    let path = folder.join(name);
    let mut all = vec!["create", "-q", "-f", "qcow2"];
    let (options, size) = arguments.split_at(arguments.len() - 1);
    all.extend(options);
    all.push(path.to_str().expect("a path"));
    all.extend(size);
    let (status, text) = qemu_img(&all);
    assert_eq!(status, 0, "{text}");
    path
}

/// Opens an image for writing, with all that its header says it stands on.
pub(super) fn open_chain(path: &Path) -> Qcow2 {
    fn layer(folder: &Path, name: &BackingName) -> Layer {
        let path = folder.join(&name.file);
        let file = open_file(&path, false);
        match name.format.as_deref() {
            Some("raw") => Layer::raw(1, file).expect("a raw file"),
            _ => {
                let below = backing_name(&*file).expect("an image");
                let below = below.map(|name| layer(folder, &name));
                Layer::Qcow2(Box::new(Qcow2::open(file, 1, false, below).expect("an image")))
            }
        }
    }
    let file = open_file(path, true);
    let below = backing_name(&*file).expect("an image");
    let below = below.map(|name| layer(path.parent().expect("a folder"), &name));
    Qcow2::open(file, 0, true, below).expect("an image")
}

/// Compares tables and contents with what QEMU finds: no errors, and no leaks unless they are allowed.
pub(super) fn check(path: &Path, expected: &[u8], leaks: bool) {
    let (status, text) = qemu_img(&["check", "-f", "qcow2", path.to_str().expect("a path")]);
    assert!(status == 0 || leaks && status == 3, "{text}");
    let raw = path.with_extension("converted");
    let (status, text) = qemu_img(&[
        "convert",
        "-f",
        "qcow2",
        "-O",
        "raw",
        path.to_str().expect("a path"),
        raw.to_str().expect("a path"),
    ]);
    assert_eq!(status, 0, "{text}");
    let found = std::fs::read(&raw).expect("a raw image");
    assert_same(&found, expected);
}

pub(super) fn assert_same(found: &[u8], expected: &[u8]) {
    assert_eq!(found.len(), expected.len());
    let different = found
        .iter()
        .zip(expected)
        .position(|(found, expected)| found != expected);
    assert_eq!(different, None, "the first different byte");
}

/// What a caller does with an image, one request at a time.
impl Qcow2 {
    pub(super) fn test_read(&mut self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0xee; len];
        self.try_read(offset, &mut bytes).expect("a read");
        bytes
    }

    pub(super) fn try_read(&mut self, offset: u64, bytes: &mut [u8]) -> std::io::Result<()> {
        let mut at = 0;
        while at < bytes.len() {
            let left = bytes.len() - at;
            let source = self.map_read(offset + at as u64, left as u64)?;
            let len = source.len() as usize;
            assert!(len > 0 && len <= left);
            let here = &mut bytes[at..at + len];
            match source {
                Source::File { storage, offset, .. } => {
                    let read = storage.read_at(here, offset)?;
                    here[read..].fill(0);
                }
                Source::Zero { .. } => here.fill(0),
                Source::Bytes(from) => here.copy_from_slice(from),
            }
            at += len;
        }
        Ok(())
    }

    pub(super) fn test_write(&mut self, offset: u64, bytes: &[u8]) {
        self.try_write(offset, bytes).expect("a write");
    }

    pub(super) fn try_write(&mut self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        let mut at = 0;
        while at < bytes.len() {
            let (len, allocation) = self.begin_write(offset + at as u64, &bytes[at..])?;
            if let Some(allocation) = allocation {
                self.end_write(&allocation, true)?;
            }
            at += len;
        }
        Ok(())
    }

    /// Writes data without making it visible. Returns how much.
    pub(super) fn begin_write(
        &mut self,
        offset: u64,
        bytes: &[u8],
    ) -> std::io::Result<(usize, Option<Allocation>)> {
        let Target::File {
            offset: at,
            len,
            allocation,
        } = self.map_write(offset, bytes.len() as u64)?
        else {
            return Err(std::io::ErrorKind::WouldBlock.into());
        };
        let len = len as usize;
        assert!(len > 0 && len <= bytes.len());
        self.storage.write_at(&bytes[..len], at)?;
        Ok((len, allocation))
    }
}
