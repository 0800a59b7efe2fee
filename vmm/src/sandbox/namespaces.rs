//! The namespaces of the process, and the empty tree that becomes its root.
//!
//! Making a network namespace takes the kernel half a millisecond or more, and giving up the host's mounts waits for
//! other processors, so a process that may do both has them made on a thread ([`Spaces::make`]) while it opens its files
//! and builds the VM, and only moves there at the end ([`Spaces::enter`]). The user namespace comes last: without it
//! nothing of the others could be had back, whatever the process became. An unprivileged process needs the user namespace
//! first, so it makes all of them at the end, in one call.
//!
//! A pid namespace cannot be entered, only be born in: whoever starts this process makes it (see [`crate::spawn`]).

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{chdir, getegid, geteuid, pivot_root};

/// What a process can be given apart from its parent, apart from the user namespace. Names are those of `/proc/PID/ns`.
const KINDS: [(&str, CloneFlags); 5] = [
    ("ipc", CloneFlags::CLONE_NEWIPC),
    ("uts", CloneFlags::CLONE_NEWUTS),
    ("cgroup", CloneFlags::CLONE_NEWCGROUP),
    ("net", CloneFlags::CLONE_NEWNET),
    ("mnt", CloneFlags::CLONE_NEWNS),
];
/// An existing folder, on which the empty tree is mounted, unseen by anyone else.
const PLACE: &str = "/proc";
/// How long a thread that has been joined may take to leave the kernel's list of this process' threads.
const PATIENCE: Duration = Duration::from_secs(2);
// open_tree(2) and mount_setattr(2).
const OPEN_TREE_CLONE: libc::c_uint = 1;
const MOUNT_ATTR_NOSUID: u64 = 0x2;
const MOUNT_ATTR_NODEV: u64 = 0x4;
const MOUNT_ATTR_NOEXEC: u64 = 0x8;

/// Namespaces on their way.
pub(super) enum Spaces {
    /// Made by a thread of a privileged process.
    Coming(JoinHandle<io::Result<Vec<OwnedFd>>>),
    /// To be made at the end, within a user namespace.
    Own,
}

/// How that went.
pub(super) enum Entered {
    /// The process is in namespaces of its own.
    All,
    /// An unprivileged process may not make them here, for this reason. Nothing has changed.
    Not(io::Error),
}

fn all() -> CloneFlags {
    KINDS
        .iter()
        .fold(CloneFlags::empty(), |all, (_, flag)| all | *flag)
}

impl Spaces {
    /// Starts to make namespaces whose root is an empty tree.
    pub(super) fn make() -> io::Result<Self> {
        if !geteuid().is_root() {
            return Ok(Self::Own);
        }
        let thread = std::thread::Builder::new()
            .name("namespaces".into())
            .stack_size(64 << 10)
            .spawn(|| {
                unshare(all())?;
                let open = |kind| Ok(File::open(format!("/proc/thread-self/ns/{kind}"))?.into());
                let opened: io::Result<Vec<OwnedFd>> = KINDS.iter().map(|(kind, _)| open(kind)).collect();
                empty_root()?;
                opened
            })?;
        Ok(Self::Coming(thread))
    }

    /// Moves into the namespaces. `folders` are reached by their descriptors afterwards, and by nothing else.
    /// `become_user` is called where the process still may change its user; its groups and capabilities are to be what it
    /// returns with.
    ///
    /// Errors leave the process half moved: it is to end.
    pub(super) fn enter(
        self,
        folders: &[(&File, PathBuf)],
        become_user: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<Entered> {
        let made = match self {
            Self::Own => None,
            Self::Coming(thread) => match thread.join().map_err(|_| io::Error::other("the thread died"))? {
                Ok(made) => Some(made),
                // Root within a container, for one.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
                Err(error) => return Err(error),
            },
        };
        // Seen through what stays mounted here.
        let identity = File::open("/proc/self")?;
        match made {
            Some(made) => {
                detach(folders)?;
                for ((_, kind), space) in KINDS.iter().zip(made) {
                    setns(space, *kind)?;
                }
                become_user()?;
                user_namespace(&identity, CloneFlags::empty())?;
            }
            None => {
                become_user()?;
                let within = || {
                    user_namespace(&identity, all())?;
                    detach(folders)?;
                    empty_root()
                };
                match within() {
                    Err(error) if is_refusal(&error) => return Ok(Entered::Not(error)),
                    result => result?,
                }
            }
        }
        Ok(Entered::All)
    }
}

/// Whether an error says that a host does not let its users make namespaces, or no more of them (user_namespaces(7)).
fn is_refusal(error: &io::Error) -> bool {
    [
        libc::EPERM,
        libc::EACCES,
        libc::ENOSPC,
        libc::EUSERS,
        libc::ENOSYS,
    ]
    .iter()
    .any(|code| error.raw_os_error() == Some(*code))
}

/// Makes a user namespace, and other namespaces that belong to it, in which the process keeps its user and group and
/// there are no others.
fn user_namespace(identity: &File, others: CloneFlags) -> io::Result<()> {
    let (uid, gid) = (geteuid(), getegid());
    let deadline = Instant::now() + PATIENCE;
    loop {
        match unshare(CloneFlags::CLONE_NEWUSER | others) {
            Ok(()) => break,
            // A process with several threads is refused, and a thread counts for a moment after it has been joined.
            Err(nix::Error::EINVAL) if Instant::now() < deadline => std::thread::yield_now(),
            Err(error) => return Err(error.into()),
        }
    }
    // Files of a process that has changed its user belong to root, unless it may be dumped. That is taken back later.
    nix::sys::prctl::set_dumpable(true)?;
    write_at(identity, c"uid_map", &format!("{uid} {uid} 1"))?;
    write_at(identity, c"setgroups", "deny")?;
    write_at(identity, c"gid_map", &format!("{gid} {gid} 1"))
}

fn write_at(folder: &File, name: &CStr, text: &str) -> io::Result<()> {
    let flags = nix::fcntl::OFlag::O_WRONLY | nix::fcntl::OFlag::O_CLOEXEC;
    let file = nix::fcntl::openat(folder, name, flags, nix::sys::stat::Mode::empty())?;
    io::Write::write_all(&mut File::from(file), text.as_bytes())
}

/// Makes an empty tree the root of this mount namespace and lets go of all others.
fn empty_root() -> io::Result<()> {
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY;
    let options = Some("size=4k,nr_inodes=2,mode=555");
    mount(Some("virga"), PLACE, Some("tmpfs"), flags, options)?;
    chdir(PLACE)?;
    // The new root, with the old one on top of it, which then goes (pivot_root(2), "pivot_root(".", ".")").
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    Ok(chdir("/")?)
}

/// Replaces each descriptor of a folder by one that leads to a mount of this folder alone: there is no way up from there,
/// and nothing in it can be run or be a device.
fn detach(folders: &[(&File, PathBuf)]) -> io::Result<()> {
    for (folder, path) in folders {
        let mounted = clone_mount(path)?;
        // SAFETY: both are open; the number stays the property of `folder`, which goes on with the other folder.
        if unsafe { libc::dup3(mounted.as_raw_fd(), folder.as_raw_fd(), libc::O_CLOEXEC) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// A mount of a folder that is in no mount namespace.
fn clone_mount(path: &Path) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct MountAttr {
        set: u64,
        clear: u64,
        propagation: u64,
        user_namespace: u64,
    }
    let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes())?;
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC.cast_unsigned();
    // SAFETY: the path is a string that ends with a NUL and lives across the call.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor, nobody else has it.
    let mounted = unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) };
    let attributes = MountAttr {
        set: MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC,
        clear: 0,
        propagation: 0,
        user_namespace: 0,
    };
    // SAFETY: path and structure are valid for the call, which only reads them, and so is the length.
    let set = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mounted.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<MountAttr>(),
        )
    };
    match set {
        0 => Ok(mounted),
        _ => Err(io::Error::last_os_error()),
    }
}
