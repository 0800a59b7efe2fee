//! What an SFTP session does to the file system.
//!
//! Paths are UTF-8, as the packets' library has them; names that are not can be seen but not opened. Relative
//! paths start at the root directory.

use std::fs::{self, File, FileTimes, Metadata, OpenOptions, Permissions, ReadDir};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::fcntl::{AT_FDCWD, AtFlags, RenameFlags, renameat2};
use nix::libc;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchownat};
use russh_sftp::protocol::{File as Entry, FileAttributes, OpenFlags};

/// Permission bits of a mode, with set-id and sticky.
const MODE_BITS: u32 = 0o7777;

/// An open file.
#[derive(Debug)]
pub(super) struct OpenFile(File);

impl OpenFile {
    /// Opens or creates; `attributes` only matter to a new file.
    pub(super) fn open(path: &str, flags: OpenFlags, attributes: &FileAttributes) -> io::Result<Self> {
        let creates = flags.contains(OpenFlags::CREATE);
        let file = OpenOptions::new()
            .read(flags.contains(OpenFlags::READ))
            .write(flags.contains(OpenFlags::WRITE))
            .append(flags.contains(OpenFlags::APPEND))
            .truncate(flags.contains(OpenFlags::TRUNCATE))
            .create(creates)
            .create_new(creates && flags.contains(OpenFlags::EXCLUDE))
            .mode(attributes.permissions.map_or(0o666, |mode| mode & MODE_BITS))
            // A fifo without a partner and a terminal must not hold the session up.
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(absolute(path))?;
        if file.metadata()?.is_dir() {
            return Err(io::Error::from_raw_os_error(libc::EISDIR));
        }
        Ok(Self(file))
    }

    /// Up to `len` bytes; fewer at the end of the file, none behind it.
    pub(super) fn read(&self, offset: u64, len: u32) -> io::Result<Vec<u8>> {
        let mut data = vec![0; len as usize];
        let mut filled = 0;
        while filled < data.len() {
            match self
                .0
                .read_at(&mut data[filled..], offset.saturating_add(filled as u64))
            {
                Ok(0) => break,
                Ok(len) => filled += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) if filled > 0 => break, // the next read reports it
                Err(error) => return Err(error),
            }
        }
        data.truncate(filled);
        Ok(data)
    }

    pub(super) fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }

    pub(super) fn stat(&self) -> io::Result<FileAttributes> {
        self.0.metadata().map(|metadata| attributes_of(&metadata))
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    pub(super) fn set_attributes(&self, attributes: &FileAttributes) -> io::Result<()> {
        if let Some(size) = attributes.size {
            self.0.set_len(size)?;
        }
        // The owner first: a change of it takes set-id bits away.
        if attributes.uid.is_some() || attributes.gid.is_some() {
            std::os::unix::fs::fchown(&self.0, attributes.uid, attributes.gid)?;
        }
        if let Some(mode) = attributes.permissions {
            self.0.set_permissions(Permissions::from_mode(mode & MODE_BITS))?;
        }
        if let Some((accessed, modified)) = times(attributes) {
            self.0
                .set_times(FileTimes::new().set_accessed(accessed).set_modified(modified))?;
        }
        Ok(())
    }
}

/// A directory that is being read.
#[derive(Debug)]
pub(super) struct Directory(ReadDir);

impl Directory {
    pub(super) fn open(path: &str) -> io::Result<Self> {
        fs::read_dir(absolute(path)).map(Self)
    }

    /// The next entries; none at the end. Entries that vanish meanwhile are left out.
    pub(super) fn next_entries(&mut self, most: usize) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in self.0.by_ref() {
            let entry = entry?;
            if let Ok(metadata) = entry.metadata() {
                let name = entry.file_name().to_string_lossy().into_owned();
                entries.push(Entry::new(name, attributes_of(&metadata)));
            }
            if entries.len() == most {
                break;
            }
        }
        Ok(entries)
    }
}

pub(super) fn stat(path: &str) -> io::Result<FileAttributes> {
    fs::metadata(absolute(path)).map(|metadata| attributes_of(&metadata))
}

pub(super) fn lstat(path: &str) -> io::Result<FileAttributes> {
    fs::symlink_metadata(absolute(path)).map(|metadata| attributes_of(&metadata))
}

/// Follows symbolic links.
pub(super) fn set_attributes(path: &str, attributes: &FileAttributes) -> io::Result<()> {
    let path = absolute(path);
    if let Some(size) = attributes.size {
        OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&path)?
            .set_len(size)?;
    }
    if attributes.uid.is_some() || attributes.gid.is_some() {
        std::os::unix::fs::chown(&path, attributes.uid, attributes.gid)?;
    }
    if let Some(mode) = attributes.permissions {
        fs::set_permissions(&path, Permissions::from_mode(mode & MODE_BITS))?;
    }
    set_times(&path, attributes, UtimensatFlags::FollowSymlink)
}

/// Owner and times of a link itself. A link's mode means nothing and its size cannot be set.
pub(super) fn set_link_attributes(path: &str, attributes: &FileAttributes) -> io::Result<()> {
    let path = absolute(path);
    let (uid, gid) = (
        attributes.uid.map(Uid::from_raw),
        attributes.gid.map(Gid::from_raw),
    );
    if uid.is_some() || gid.is_some() {
        fchownat(AT_FDCWD, &path, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    }
    set_times(&path, attributes, UtimensatFlags::NoFollowSymlink)
}

fn set_times(path: &Path, attributes: &FileAttributes, follow: UtimensatFlags) -> io::Result<()> {
    if let (Some(accessed), Some(modified)) = (attributes.atime, attributes.mtime) {
        let time = |seconds: u32| TimeSpec::new(i64::from(seconds), 0);
        utimensat(AT_FDCWD, path, &time(accessed), &time(modified), follow)?;
    }
    Ok(())
}

pub(super) fn remove(path: &str) -> io::Result<()> {
    fs::remove_file(absolute(path))
}

pub(super) fn make_directory(path: &str, attributes: &FileAttributes) -> io::Result<()> {
    let mode = attributes.permissions.map_or(0o777, |mode| mode & MODE_BITS);
    fs::DirBuilder::new().mode(mode).create(absolute(path))
}

pub(super) fn remove_directory(path: &str) -> io::Result<()> {
    fs::remove_dir(absolute(path))
}

/// As POSIX: replaces what is there.
pub(super) fn rename(old: &str, new: &str) -> io::Result<()> {
    fs::rename(absolute(old), absolute(new))
}

/// As the draft, 6.5: fails where there is something already.
pub(super) fn rename_to_new(old: &str, new: &str) -> io::Result<()> {
    let (old, new) = (absolute(old), absolute(new));
    match renameat2(AT_FDCWD, &old, AT_FDCWD, &new, RenameFlags::RENAME_NOREPLACE) {
        Ok(()) => Ok(()),
        // Not every file system can: then it is not atomic, but still right for a single writer.
        Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOSYS) => {
            if fs::symlink_metadata(&new).is_ok() {
                return Err(io::Error::from_raw_os_error(libc::EEXIST));
            }
            fs::rename(old, new)
        }
        Err(error) => Err(error.into()),
    }
}

pub(super) fn hard_link(old: &str, new: &str) -> io::Result<()> {
    fs::hard_link(absolute(old), absolute(new))
}

pub(super) fn symlink(target: &str, link: &str) -> io::Result<()> {
    std::os::unix::fs::symlink(target, absolute(link))
}

pub(super) fn read_link(path: &str) -> io::Result<String> {
    fs::read_link(absolute(path)).map(|target| target.to_string_lossy().into_owned())
}

/// The canonical path; of something that does not exist yet, the path without `.` and `..`.
pub(super) fn real_path(path: &str) -> io::Result<String> {
    let path = absolute(path);
    let real = match fs::canonicalize(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut clean = PathBuf::from("/");
            for part in path.components() {
                match part {
                    std::path::Component::ParentDir => drop(clean.pop()),
                    std::path::Component::Normal(name) => clean.push(name),
                    _ => {}
                }
            }
            clean
        }
        other => other?,
    };
    Ok(real.to_string_lossy().into_owned())
}

/// The eleven numbers of `statvfs@openssh.com` (OpenSSH's PROTOCOL, 4.4).
pub(super) fn file_system(path: &str) -> io::Result<Vec<u8>> {
    let of = nix::sys::statvfs::statvfs(&absolute(path))?;
    let read_only = u64::from(of.flags().contains(nix::sys::statvfs::FsFlags::ST_RDONLY));
    let no_setuid = u64::from(of.flags().contains(nix::sys::statvfs::FsFlags::ST_NOSUID)) << 1;
    let numbers: [u64; 11] = [
        of.block_size(),
        of.fragment_size(),
        of.blocks(),
        of.blocks_free(),
        of.blocks_available(),
        of.files(),
        of.files_free(),
        of.files_available(),
        of.filesystem_id(),
        read_only | no_setuid,
        of.name_max(),
    ];
    Ok(numbers.into_iter().flat_map(u64::to_be_bytes).collect())
}

fn absolute(path: &str) -> PathBuf {
    Path::new("/").join(path)
}

fn attributes_of(metadata: &Metadata) -> FileAttributes {
    FileAttributes {
        size: Some(metadata.size()),
        uid: Some(metadata.uid()),
        gid: Some(metadata.gid()),
        permissions: Some(metadata.mode()),
        // The protocol's seconds are 32 bits wide.
        atime: Some(metadata.atime().clamp(0, i64::from(u32::MAX)) as u32),
        mtime: Some(metadata.mtime().clamp(0, i64::from(u32::MAX)) as u32),
        user: None,
        group: None,
    }
}

fn times(attributes: &FileAttributes) -> Option<(SystemTime, SystemTime)> {
    let time = |seconds: u32| SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from(seconds));
    Some((time(attributes.atime?), time(attributes.mtime?)))
}
