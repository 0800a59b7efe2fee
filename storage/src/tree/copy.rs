//! Copying a tree, with more than one thread when it is large.
//!
//! The work is a stack of directories. A thread takes one, makes all its entries in the copy and puts the subdirectories on the
//! stack; a directory's own owner, mode and times are set when its entries are there, for making entries would change its time and a set-gid bit
//! or default ACL would leak into them. The stack is taken from its top, so the number of open directories stays near the
//! tree's depth.

use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{
    FileStat, Mode, SFlag, UtimensatFlags, fchmodat, fstat, fstatat, mkdirat, mknodat, utimensat,
};
use nix::unistd::{Gid, Uid, fchownat, linkat, symlinkat};

use super::entries::{Entry, read_entries};
use super::file::{Inode, Mover, copy_attributes, copy_inode, entry_path, is_ours, open_source, times};
use super::{open_dir, open_top};
use crate::error::{Error, Result};

/// Trees with fewer entries are done before a second thread would have started.
const WORTH_A_THREAD: usize = 512;

/// More threads than this wait for the file system's locks.
const THREADS_MAX: usize = 4;

/// Copies the contents of directory `from` into the directory `to`, which exists and is empty, and gives it `from`'s metadata. Entries that
/// vanish meanwhile, as in a running container, are left out.
pub(crate) fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    let source = open_top(from).map_err(|error| Error::io("opening", from, error))?;
    let target = open_top(to).map_err(|error| Error::io("opening", to, error))?;
    let copy = Copy {
        target: &target,
        mover: Mover::default(),
        links: Mutex::default(),
        queue: Mutex::new(Queue::default()),
        more: Condvar::new(),
        entries: AtomicUsize::new(0),
    };
    let top = Job {
        parents: None,
        name: CString::default(),
        path: PathBuf::new(),
    };
    let outcome = copy.directory(&top, &source).and_then(|()| copy.run());
    outcome.map_err(|failure| Error::io("copying", from.join(failure.path), failure.error))
}

/// Where copying ended, and why.
#[derive(Debug)]
struct Failure {
    path: PathBuf,
    error: Errno,
}

/// A directory in source and copy.
#[derive(Debug)]
struct Pair {
    source: OwnedFd,
    target: OwnedFd,
}

/// A directory to copy: made already, but empty.
#[derive(Debug)]
struct Job {
    parents: Option<Arc<Pair>>,
    name: CString,
    /// From the top of the tree.
    path: PathBuf,
}

#[derive(Debug, Default)]
struct Queue {
    jobs: Vec<Job>,
    busy: usize,
    failed: Option<Failure>,
}

struct Copy<'a> {
    target: &'a OwnedFd,
    mover: Mover,
    /// First copy of each inode with several names, by device and inode.
    links: Mutex<HashMap<(u64, u64), PathBuf>>,
    queue: Mutex<Queue>,
    more: Condvar,
    entries: AtomicUsize,
}

impl Copy<'_> {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works until nothing is left, calling for help when there is much of it.
    fn run(&self) -> std::result::Result<(), Failure> {
        let cores = thread::available_parallelism()
            .map_or(1, usize::from)
            .min(THREADS_MAX);
        let finished = self.work(|| cores > 1 && self.entries.load(Ordering::Relaxed) >= WORTH_A_THREAD);
        if !finished {
            thread::scope(|scope| {
                for _ in 1..cores {
                    scope.spawn(|| self.work(|| false));
                }
                self.work(|| false);
            });
        }
        match self.queue().failed.take() {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    /// Takes directories from the stack until all is done, or until `enough` says so. Returns whether all is done.
    fn work(&self, enough: impl Fn() -> bool) -> bool {
        let mut queue = self.queue();
        loop {
            if queue.failed.is_some() || (queue.jobs.is_empty() && queue.busy == 0) {
                return true;
            }
            if enough() {
                return false;
            }
            let Some(job) = queue.jobs.pop() else {
                queue = self.more.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            queue.busy += 1;
            drop(queue);
            let outcome = self.job(job);
            queue = self.queue();
            queue.busy -= 1;
            if let Err(failure) = outcome {
                queue.failed.get_or_insert(failure);
            }
            if queue.failed.is_some() || queue.busy == 0 {
                self.more.notify_all();
            }
        }
    }

    fn job(&self, job: Job) -> std::result::Result<(), Failure> {
        let fail = |error| Failure {
            path: job.path.clone(),
            error,
        };
        let Some(parents) = &job.parents else {
            return Ok(());
        };
        let source = match open_dir(&parents.source, job.name.as_c_str()) {
            // Removed, or replaced by something else, since it was listed.
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(()),
            other => other.map_err(fail)?,
        };
        self.directory(&job, &source)
    }

    /// Copies the entries of one directory.
    fn directory(&self, job: &Job, source: &OwnedFd) -> std::result::Result<(), Failure> {
        let fail = |error| Failure {
            path: job.path.clone(),
            error,
        };
        let target = match &job.parents {
            Some(parents) => open_dir(&parents.target, job.name.as_c_str()).map_err(fail)?,
            None => self.target.try_clone().map_err(|_| fail(Errno::EMFILE))?,
        };
        let entries = read_entries(source).map_err(fail)?;
        self.entries.fetch_add(entries.len(), Ordering::Relaxed);
        let mut subdirectories = Vec::new();
        for entry in entries {
            let path = job.path.join(OsStr::from_bytes(entry.name.to_bytes()));
            match self.entry(source.as_fd(), target.as_fd(), &entry, &path) {
                Ok(true) => subdirectories.push((entry.name, path)),
                Ok(false) => {}
                Err(error) => return Err(Failure { path, error }),
            }
        }
        let stat = fstat(source).map_err(fail)?;
        copy_inode(source.as_fd(), target.as_fd(), &stat).map_err(fail)?;
        if subdirectories.is_empty() {
            return Ok(());
        }
        let pair = Arc::new(Pair {
            source: source.try_clone().map_err(|_| fail(Errno::EMFILE))?,
            target,
        });
        let mut queue = self.queue();
        for (name, path) in subdirectories {
            queue.jobs.push(Job {
                parents: Some(Arc::clone(&pair)),
                name,
                path,
            });
        }
        drop(queue);
        self.more.notify_all();
        Ok(())
    }

    /// Copies one entry. Returns whether it is a directory, which is made but not yet filled.
    fn entry(
        &self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        entry: &Entry,
        path: &Path,
    ) -> nix::Result<bool> {
        let name = entry.name.as_c_str();
        if entry.kind == libc::DT_DIR {
            return mkdirat(to, name, Mode::S_IRWXU).map(|()| true);
        }
        if entry.kind == libc::DT_REG {
            match self.regular(from, to, name, path) {
                // Replaced by something else since it was listed: look again.
                Err(Errno::ESTALE | Errno::ELOOP | Errno::ENXIO) => {}
                other => return other.map(|()| false),
            }
        }
        let stat = match fstatat(from, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => return Ok(false),
            other => other?,
        };
        match stat.st_mode & libc::S_IFMT {
            libc::S_IFDIR => mkdirat(to, name, Mode::S_IRWXU).map(|()| true),
            libc::S_IFREG => self.regular(from, to, name, path).map(|()| false),
            _ => self.special(from, to, name, &stat, path).map(|()| false),
        }
    }

    /// Copies a regular file. `ESTALE` if it is something else.
    fn regular(&self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, path: &Path) -> nix::Result<()> {
        let (source, stat) = match open_source(from, name) {
            Err(Errno::ENOENT) => return Ok(()),
            other => other?,
        };
        if stat.st_mode & libc::S_IFMT != libc::S_IFREG {
            return Err(Errno::ESTALE);
        }
        self.linked(to, name, &stat, path, || {
            let flags =
                OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let target = openat(to, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
            self.mover.contents(source.as_fd(), target.as_fd(), &stat)?;
            copy_inode(source.as_fd(), target.as_fd(), &stat)
        })
    }

    /// Copies a symbolic link, device, FIFO or socket.
    fn special(
        &self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &CStr,
        stat: &FileStat,
        path: &Path,
    ) -> nix::Result<()> {
        self.linked(to, name, stat, path, || {
            let symlink = stat.st_mode & libc::S_IFMT == libc::S_IFLNK;
            if symlink {
                let destination = readlinkat(from, name)?;
                symlinkat(destination.as_os_str(), to, name)?;
            } else {
                let kind = SFlag::from_bits_truncate(stat.st_mode & libc::S_IFMT);
                mknodat(to, name, kind, Mode::S_IRUSR | Mode::S_IWUSR, stat.st_rdev)?;
            }
            let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
            if !is_ours(stat) {
                fchownat(to, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
            }
            if let (Some(source), Some(target)) = (entry_path(from, name), entry_path(to, name)) {
                copy_attributes(Inode::Path(&source), Inode::Path(&target))?;
            }
            if !symlink {
                // The tree being written is ours alone, so following the name cannot lead elsewhere.
                let mode = Mode::from_bits_truncate(stat.st_mode);
                fchmodat(to, name, mode, nix::sys::stat::FchmodatFlags::FollowSymlink)?;
            }
            let (atime, mtime) = times(stat);
            utimensat(to, name, &atime, &mtime, UtimensatFlags::NoFollowSymlink)
        })
    }

    /// Makes an entry by `make`, or as a further name of a copy that is there already.
    fn linked(
        &self,
        to: BorrowedFd<'_>,
        name: &CStr,
        stat: &FileStat,
        path: &Path,
        make: impl FnOnce() -> nix::Result<()>,
    ) -> nix::Result<()> {
        if stat.st_nlink < 2 {
            return make();
        }
        // Held while the first copy is made, so that a second name never meets half a file. Few files have several names.
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(first) = links.get(&(stat.st_dev, stat.st_ino)) {
            // Every component of this path is a directory that this copy made.
            return linkat(self.target, first.as_path(), to, name, AtFlags::empty());
        }
        make()?;
        links.insert((stat.st_dev, stat.st_ino), path.to_path_buf());
        Ok(())
    }
}
