//! Initrd archives of a microVM: one with the agent, the same for all, and a small one with its configuration.
//!
//! The format is "newc" of the kernel's Documentation/driver-api/early-userspace/buffer-format.rst: a header of
//! 110 ASCII characters, the name and the content, each padded to four bytes. The kernel unpacks several archives
//! one after the other and skips zero bytes between them, so the VMM can map the agent's archive from a file that
//! all machines share and put the configuration on the next page.

use std::io;
use std::path::Path;

use crate::config::GuestConfig;

/// Directories the agent mounts things on, before there is a root file system.
const DIRECTORIES: [&str; 6] = ["dev", "proc", "sys", "run", "virga", "virga/root"];

/// The archive with a program, usually the agent, as `/init`, the directories it needs and `/dev/console`, which the
/// kernel opens as the standard streams of the first process.
pub fn init_archive(program: &Path) -> io::Result<Vec<u8>> {
    let program = std::fs::read(program)?;
    let mut archive = Archive::default();
    for directory in DIRECTORIES {
        archive.entry(directory, libc::S_IFDIR | 0o755, (0, 0), &[])?;
    }
    archive.entry("dev/console", libc::S_IFCHR | 0o600, (5, 1), &[])?;
    archive.entry("init", libc::S_IFREG | 0o755, (0, 0), &program)?;
    archive.finish()
}

/// The archive with `/virga/config.json`.
pub fn config_archive(config: &GuestConfig) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(config)?;
    let mut archive = Archive::default();
    archive.entry("virga", libc::S_IFDIR | 0o755, (0, 0), &[])?;
    archive.entry("virga/config.json", libc::S_IFREG | 0o600, (0, 0), &json)?;
    archive.finish()
}

/// An archive in the making.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    /// Entries so far; the next one's inode number.
    entries: u32,
}

impl Archive {
    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) -> io::Result<()> {
        let size = u32::try_from(content.len()).map_err(|_| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "{name} has {} bytes, more than an initrd entry can hold",
                    content.len()
                ),
            )
        })?;
        self.entries += 1;
        let links = if mode & libc::S_IFMT == libc::S_IFDIR {
            2
        } else {
            1
        };
        // ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
        let fields = [
            self.entries,
            mode,
            0,
            0,
            links,
            0,
            size,
            0,
            0,
            device.0,
            device.1,
            name.len() as u32 + 1,
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
        Ok(())
    }

    /// Name and content begin at multiples of four.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> io::Result<Vec<u8>> {
        self.entry("TRAILER!!!", 0, (0, 0), &[])?;
        Ok(self.bytes)
    }
}

#[cfg(test)]
#[path = "initrd_tests.rs"]
mod tests;
