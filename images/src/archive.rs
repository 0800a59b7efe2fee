//! Going through a tar file entry by entry, without trusting its headers.
//!
//! The `tar` crate reads long names and extended headers into memory before anyone can ask how long they are. So the
//! stream below it has a gate: while the next header is looked for, it opens only so far.

use std::cell::Cell;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::Path;
use std::rc::Rc;

use crate::compression::{ReadSoFar, open_tar};
use crate::error::{Error, Result};

/// What the headers of one entry may take: a long name, a long link and extended attributes.
const HEADERS_MAX: u64 = 4 << 20;

/// An entry as it is read here.
pub(crate) type Entry<'a> = tar::Entry<'a, Gated>;

/// Calls `visit` with each entry, and the count of bytes read of the file, until it has seen enough.
pub(crate) fn for_each_entry(
    file: &Path,
    visit: &mut dyn FnMut(&mut Entry<'_>, &ReadSoFar) -> Result<ControlFlow<()>>,
) -> Result<()> {
    let broken = |err: io::Error| Error::invalid(file, err);
    let (stream, read_so_far) = open_tar(file)?;
    let gate = Rc::new(Gate {
        position: Cell::new(0),
        closes: Cell::new(HEADERS_MAX),
    });
    let mut archive = tar::Archive::new(Gated {
        inner: stream,
        gate: Rc::clone(&gate),
    });
    let mut entries = archive.entries().map_err(broken)?;
    let mut end = 0;
    loop {
        gate.closes.set(HEADERS_MAX.saturating_add(end));
        let Some(entry) = entries.next() else {
            return Ok(());
        };
        let mut entry = entry.map_err(broken)?;
        gate.closes.set(u64::MAX);
        // A sparse entry's size is that of the file; its header has what is in the archive.
        let archived = if entry.header().entry_type().is_gnu_sparse() {
            entry.header().entry_size().map_err(broken)?
        } else {
            entry.size()
        };
        end = entry
            .raw_file_position()
            .saturating_add(archived)
            .saturating_add(512);
        if visit(&mut entry, &read_so_far)?.is_break() {
            return Ok(());
        }
    }
}

struct Gate {
    position: Cell<u64>,
    closes: Cell<u64>,
}

/// A stream that ends with an error where its gate is closed.
pub(crate) struct Gated {
    inner: Box<dyn Read>,
    gate: Rc<Gate>,
}

impl Read for Gated {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let position = self.gate.position.get();
        let left = self.gate.closes.get().saturating_sub(position);
        if left == 0 && !buffer.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the headers of one entry exceed 4 MiB",
            ));
        }
        let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = self.inner.read(&mut buffer[..want])?;
        self.gate.position.set(position.saturating_add(read as u64));
        Ok(read)
    }
}
