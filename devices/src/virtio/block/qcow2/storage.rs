//! The file of an image as its tables need it: plain reads and writes at an offset, and a barrier.

use super::super::file::ZEROES;
use std::io;
use std::ops::Range;

/// An open file. Writes may be reordered and lost until [`sync`](Self::sync) returns.
pub trait Storage: Send + Sync {
    /// Reads until `bytes` is full or the file ends. Returns how many bytes there were.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all bytes. The file grows when they lie beyond its end.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes everything that was written durable, also what others wrote to the file.
    fn sync(&self) -> io::Result<()>;
    /// Bytes of the file.
    fn size(&self) -> io::Result<u64>;
    /// Makes the file longer; the new bytes read as zero.
    fn grow(&self, len: u64) -> io::Result<()>;
    /// Lets these bytes read as zero and gives their space back. May fail, and do nothing then.
    fn punch(&self, bytes: Range<u64>) -> io::Result<()>;
}

impl dyn Storage {
    /// Writes zeroes, by a hole where that is possible.
    pub(super) fn zero(&self, bytes: Range<u64>) -> io::Result<()> {
        if self.punch(bytes.clone()).is_ok() {
            return Ok(());
        }
        let mut at = bytes.start;
        while at < bytes.end {
            let len = (bytes.end - at).min(ZEROES.len() as u64);
            self.write_at(ZEROES.get(..len as usize).unwrap_or_default(), at)?;
            at += len;
        }
        Ok(())
    }
}
