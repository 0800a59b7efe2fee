//! Making files beneath a folder, from paths that a hostile archive gives.
//!
//! Every path is resolved by the kernel inside the folder (`openat2` with
//! `RESOLVE_IN_ROOT`): a link in the archive that points elsewhere leads to a
//! place inside the folder, never out of it, and `..` stops at the folder.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, fchmod, mkdirat, mknodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, linkat, symlinkat, unlinkat};

use crate::error::{Error, Result};

/// Owner, permissions, time and extended attributes of a new file.
#[derive(Debug, Default)]
pub(crate) struct Attributes {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Permission bits with setuid, setgid and sticky.
    pub(crate) mode: u32,
    /// Seconds since 1970, and nanoseconds.
    pub(crate) mtime: (i64, i64),
    /// Extended attributes: name and value.
    pub(crate) xattrs: Vec<(String, Vec<u8>)>,
}

/// Runs of zeroes of at least this length become holes.
const HOLE: usize = 4096;

/// Devices that grant nothing (Linux, admin-guide/devices.txt): `null`, `zero`, `full`, `random`, `urandom`, `tty`,
/// `console`, `ptmx`. 0:0 marks a deleted file in a layer of an overlay.
const HARMLESS: [(u32, u32); 9] = [
    (0, 0),
    (1, 3),
    (1, 5),
    (1, 7),
    (1, 8),
    (1, 9),
    (5, 0),
    (5, 1),
    (5, 2),
];

/// Whether an image may bring a device node along. The file system that volumes are on honours device nodes, so one of a
/// disk would be the host's disk.
pub(crate) fn is_harmless(kind: SFlag, major: u32, minor: u32) -> bool {
    kind == SFlag::S_IFCHR && HARMLESS.contains(&(major, minor))
}

/// A folder that files are made in.
pub(crate) struct Place {
    root: OwnedFd,
    /// The folder that the last path led to; archives list a folder's files one after the other.
    last: Option<(PathBuf, OwnedFd)>,
}

/// A path of an archive without `.` parts and leading slashes; `None` when it is the top itself.
pub(crate) fn clean(path: &Path) -> Result<Option<PathBuf>> {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::CurDir | Component::RootDir => {}
            _ => return Err(Error::entry(path, "its path leads out of the image")),
        }
    }
    Ok((!out.as_os_str().is_empty()).then_some(out))
}

impl Place {
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        let file = File::open(folder).map_err(Error::io("open", folder))?;
        Ok(Self {
            root: file.into(),
            last: None,
        })
    }

    fn resolve(&self, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        openat2(&self.root, path, how)
    }

    /// The folder of `path`, made with its parents when the archive did not list it, and the last name.
    fn parent<'p>(&mut self, path: &'p Path) -> Result<(OwnedFd, &'p OsStr)> {
        let name = path
            .file_name()
            .ok_or_else(|| Error::entry(path, "it has no name"))?;
        let parent = path.parent().unwrap_or(Path::new(""));
        let failed = |err: Errno| Error::entry(path, format!("its folder cannot be used: {err}"));
        if let Some((last, fd)) = &self.last
            && last == parent
        {
            return Ok((
                fd.try_clone()
                    .map_err(|err| Error::entry(path, err.to_string()))?,
                name,
            ));
        }
        let fd = match self.resolve(in_root(parent), OFlag::O_DIRECTORY | OFlag::O_PATH) {
            Err(Errno::ENOENT) => self.make_folders(parent).map_err(failed)?,
            other => other.map_err(failed)?,
        };
        let copy = fd
            .try_clone()
            .map_err(|err| Error::entry(path, err.to_string()))?;
        self.last = Some((parent.to_owned(), copy));
        Ok((fd, name))
    }

    fn make_folders(&self, path: &Path) -> nix::Result<OwnedFd> {
        let mut fd = self.resolve(Path::new("."), OFlag::O_DIRECTORY | OFlag::O_PATH)?;
        let mut so_far = PathBuf::new();
        for part in path.components() {
            match mkdirat(&fd, part.as_os_str(), Mode::from_bits_truncate(0o755)) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(err) => return Err(err),
            }
            so_far.push(part);
            fd = self.resolve(&so_far, OFlag::O_DIRECTORY | OFlag::O_PATH)?;
        }
        Ok(fd)
    }

    /// Takes away what is at the place of a new entry, as tar does; a folder stays.
    fn clear(&mut self, folder: &OwnedFd, name: &OsStr) {
        // What cannot be removed shows in the making of the entry.
        let _ = unlinkat(folder, name, UnlinkatFlags::NoRemoveDir);
    }

    /// Makes a folder, or gives an existing one these attributes.
    pub(crate) fn folder(&mut self, path: &Path, attributes: &Attributes) -> Result<()> {
        let (parent, name) = self.parent(path)?;
        match mkdirat(&parent, name, Mode::from_bits_truncate(0o700)) {
            Ok(()) => {}
            Err(Errno::EEXIST) => {
                // A link to a folder is a folder to an archive that lists things below it.
                let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                if openat(&parent, name, flags, Mode::empty()).is_err() {
                    self.clear(&parent, name);
                    mkdirat(&parent, name, Mode::from_bits_truncate(0o700))
                        .map_err(|err| cannot_make(path, err))?;
                }
            }
            Err(err) => return Err(cannot_make(path, err)),
        }
        self.last = None;
        set_attributes(path, &parent, name, attributes, true)
    }

    /// Makes a file with what `content` gives; tells how many bytes that was by `count`.
    pub(crate) fn file(
        &mut self,
        path: &Path,
        attributes: &Attributes,
        content: &mut dyn Read,
        count: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<()> {
        let (parent, name) = self.parent(path)?;
        self.clear(&parent, name);
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(&parent, name, flags, Mode::from_bits_truncate(0o600))
            .map_err(|err| cannot_make(path, err))?;
        let mut file = File::from(fd);
        let mut buffer = vec![0; 128 << 10];
        let mut size = 0;
        loop {
            let read = content
                .read(&mut buffer)
                .map_err(|err| Error::entry(path, format!("the image ends or is damaged here: {err}")))?;
            if read == 0 {
                break;
            }
            count(read as u64)?;
            // What is zero need not be written: a disk in an archive is mostly that.
            if read >= HOLE && buffer[..read].iter().all(|&byte| byte == 0) {
                file.seek_relative(read as i64)
            } else {
                file.write_all(&buffer[..read])
            }
            .map_err(Error::io("write", path))?;
            size += read as u64;
        }
        file.set_len(size).map_err(Error::io("write", path))?;
        set_attributes(path, &parent, name, attributes, true)
    }

    /// Makes a symbolic link. Where it points is not followed here and is the instance's own business.
    pub(crate) fn symlink(&mut self, path: &Path, target: &Path, attributes: &Attributes) -> Result<()> {
        let (parent, name) = self.parent(path)?;
        self.clear(&parent, name);
        self.last = None;
        symlinkat(target, &parent, name).map_err(|err| cannot_make(path, err))?;
        set_attributes(path, &parent, name, attributes, false)
    }

    /// Makes another name of a file that the image already has.
    pub(crate) fn hard_link(&mut self, path: &Path, target: &Path) -> Result<()> {
        let (target_parent, target_name) = {
            let (fd, name) = self.parent(target)?;
            (fd, name.to_owned())
        };
        let (parent, name) = self.parent(path)?;
        self.clear(&parent, name);
        // Without AT_SYMLINK_FOLLOW: a link to a link, never to what it points at.
        linkat(
            &target_parent,
            target_name.as_os_str(),
            &parent,
            name,
            AtFlags::empty(),
        )
        .map_err(|err| Error::entry(path, format!("no link to '{}': {err}", target.display())))
    }

    /// Makes a device node or a fifo.
    pub(crate) fn node(
        &mut self,
        path: &Path,
        kind: SFlag,
        major: u32,
        minor: u32,
        attributes: &Attributes,
    ) -> Result<()> {
        let (parent, name) = self.parent(path)?;
        self.clear(&parent, name);
        let device = nix::sys::stat::makedev(major.into(), minor.into());
        mknodat(&parent, name, kind, Mode::from_bits_truncate(0o600), device)
            .map_err(|err| cannot_make(path, err))?;
        set_attributes(path, &parent, name, attributes, true)
    }
}

/// `openat2` takes no empty path.
fn in_root(path: &Path) -> &Path {
    if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    }
}

fn cannot_make(path: &Path, err: Errno) -> Error {
    match err {
        Errno::ENOSPC | Errno::EDQUOT | Errno::EIO | Errno::EROFS => Error::io("write", path)(err.into()),
        err => Error::entry(path, format!("it cannot be made: {err}")),
    }
}

fn set_attributes(
    path: &Path,
    parent: &OwnedFd,
    name: &OsStr,
    attributes: &Attributes,
    with_mode: bool,
) -> Result<()> {
    let failed = |what: &str, err: String| Error::entry(path, format!("its {what} cannot be set: {err}"));
    let owner = (
        Some(Uid::from_raw(attributes.uid)),
        Some(Gid::from_raw(attributes.gid)),
    );
    fchownat(
        parent.as_fd(),
        name,
        owner.0,
        owner.1,
        AtFlags::AT_SYMLINK_NOFOLLOW,
    )
    .map_err(|err| failed("owner", err.to_string()))?;
    if with_mode {
        let fd = openat(
            parent,
            name,
            OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
        .map_err(|err| failed("mode", err.to_string()))?;
        // chmod and setxattr take no O_PATH descriptor, but its magic link, which cannot be swapped for another.
        let magic = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        for (key, value) in &attributes.xattrs {
            match xattr::set_deref(&magic, key, value) {
                // The file system has no such attributes, or the kernel no such module.
                Err(err) if err.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(()),
                other => other,
            }
            .map_err(|err| failed(&format!("attribute {key}"), err.to_string()))?;
        }
        let mode = std::os::unix::fs::PermissionsExt::from_mode(attributes.mode & 0o7777);
        std::fs::set_permissions(&magic, mode).map_err(|err| failed("mode", err.to_string()))?;
    }
    let time = TimeSpec::new(attributes.mtime.0, attributes.mtime.1);
    utimensat(
        parent.as_fd(),
        name,
        &time,
        &time,
        UtimensatFlags::NoFollowSymlink,
    )
    .map_err(|err| failed("time", err.to_string()))
}

/// Gives the top folder itself attributes.
pub(crate) fn set_top(folder: &Path, attributes: &Attributes) -> Result<()> {
    let file = File::open(folder).map_err(Error::io("open", folder))?;
    let set = || -> nix::Result<()> {
        nix::unistd::fchown(
            &file,
            Some(Uid::from_raw(attributes.uid)),
            Some(Gid::from_raw(attributes.gid)),
        )?;
        fchmod(&file, Mode::from_bits_truncate(attributes.mode & 0o7777))
    };
    set().map_err(|err| Error::io("change", folder)(err.into()))
}

/// Removes device nodes that an image must not bring along from a tree that a tool unpacked.
pub(crate) fn remove_harmful_devices(top: &Path) -> Result<()> {
    let failed = |err: Errno| Error::io("examine", top)(err.into());
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let opened = openat(nix::fcntl::AT_FDCWD, top, flags, Mode::empty()).map_err(failed)?;
    // Folders are opened when their turn comes, so that a wide tree does not need as many descriptors.
    let mut pending = vec![(Rc::new(opened), c".".to_owned())];
    while let Some((parent, name)) = pending.pop() {
        let folder = openat(&*parent, name.as_c_str(), flags, Mode::empty()).map_err(failed)?;
        let folder = Rc::new(folder);
        let copy = folder.try_clone().map_err(Error::io("examine", top))?;
        for entry in nix::dir::Dir::from_fd(copy).map_err(failed)?.iter() {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let stat =
                nix::sys::stat::fstatat(&*folder, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(failed)?;
            let kind = SFlag::from_bits_truncate(stat.st_mode & libc::S_IFMT);
            let (major, minor) = (libc::major(stat.st_rdev), libc::minor(stat.st_rdev));
            if kind == SFlag::S_IFDIR {
                pending.push((Rc::clone(&folder), name.to_owned()));
            } else if (kind == SFlag::S_IFBLK || kind == SFlag::S_IFCHR) && !is_harmless(kind, major, minor) {
                tracing::warn!(?name, major, minor, "removing a device node of the image");
                unlinkat(&*folder, name, UnlinkatFlags::NoRemoveDir).map_err(failed)?;
            }
        }
    }
    Ok(())
}
