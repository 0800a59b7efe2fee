//! Making a container: the part that runs outside of it.
//!
//! A [`Plan`] says everything about the container; [`create`] makes its cgroup membership, namespaces and mounts and leaves an
//! init process that waits; [`Created::start`] lets it execute. Both the monitor and the OCI command line come through here.
//!
//! The caller must be single-threaded: the container's first process is a fork that goes on in Rust until it executes.

mod child;
mod plan;
pub(crate) mod system;

pub(crate) use plan::{DevicePlan, IdExtent, MountPlan, MountSource, Plan, ProcessPlan, RlimitPlan};

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use crate::cgroup::Cgroup;
use crate::sys::mount::{attr, change, clone_tree, shift_ids};
use crate::sys::process::{self, Clone, clone_process};
use crate::{Error, Result};

/// Setting up takes milliseconds; a file system that hangs must not hang its caller for ever.
const PATIENCE_MS: u16 = 30_000;

/// First byte of the messages from the child.
mod message {
    pub(super) const READY: u8 = b'R';
    pub(super) const ERROR: u8 = b'E';
    pub(super) const GO: u8 = b'G';
    pub(super) const START: u8 = b'S';
}

/// A container whose init process waits to be started.
#[derive(Debug)]
pub(crate) struct Created {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    /// The other end of the console, if the plan has a terminal.
    pub(crate) console: Option<OwnedFd>,
    sync: OwnedFd,
}

/// Mounts that come from the host: opened with the host's rights, attached inside.
pub(crate) struct HostTrees {
    root: OwnedFd,
    /// One for each mount of the plan; those that are new file systems have none.
    mounts: Vec<Option<OwnedFd>>,
    /// One for each device; `None` where an optional one is absent.
    devices: Vec<Option<OwnedFd>>,
}

impl HostTrees {
    fn open(plan: &Plan) -> Result<Self> {
        let root = clone_tree(None, &plan.rootfs, false).map_err(|e| Error::file("open", &plan.rootfs, e))?;
        let set = if plan.root_read_only { attr::RDONLY } else { 0 };
        // Out of the host's propagation groups, or mounts made inside would appear outside.
        change(&root, set, 0, false).map_err(|e| Error::file("take", &plan.rootfs, e))?;
        let mut mounts = Vec::with_capacity(plan.mounts.len());
        for mount in &plan.mounts {
            mounts.push(match &mount.source {
                MountSource::Bind { path, recursive, .. } => open_bind(path, *recursive, mount)?,
                _ => None,
            });
        }
        let mut devices = Vec::with_capacity(plan.devices.len());
        for device in &plan.devices {
            devices.push(match clone_tree(None, &device.source, false) {
                Ok(tree) => Some(tree),
                Err(error) if device.optional && error.kind() == io::ErrorKind::NotFound => None,
                Err(source) => return Err(Error::file("open", &device.source, source)),
            });
        }
        Ok(Self {
            root,
            mounts,
            devices,
        })
    }

    /// Applies the container's id mapping to the trees that want it.
    fn shift(&self, plan: &Plan, user_namespace: &OwnedFd) -> Result<()> {
        let refused = |path: &Path, source: io::Error| match source.raw_os_error() {
            Some(libc::EINVAL | libc::EOPNOTSUPP | libc::EPERM | libc::ENOSYS) => Error::NoIdmap {
                path: path.to_path_buf(),
                source,
            },
            _ => Error::file("shift the ids of", path, source),
        };
        if plan.shift_root {
            shift_ids(&self.root, user_namespace, false).map_err(|e| refused(&plan.rootfs, e))?;
        }
        for (mount, tree) in plan.mounts.iter().zip(&self.mounts) {
            if let (
                MountSource::Bind {
                    path,
                    shift: true,
                    recursive,
                },
                Some(tree),
            ) = (&mount.source, tree)
            {
                shift_ids(tree, user_namespace, *recursive).map_err(|e| refused(path, e))?;
            }
        }
        Ok(())
    }
}

fn open_bind(path: &Path, recursive: bool, mount: &MountPlan) -> Result<Option<OwnedFd>> {
    let tree = match clone_tree(None, path, recursive) {
        Ok(tree) => tree,
        Err(error) if mount.optional && error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::file("open", path, source)),
    };
    change(&tree, mount.attributes, 0, recursive).map_err(|e| Error::file("take", path, e))?;
    Ok(Some(tree))
}

/// Makes the container up to the point where its init is held before exec. On failure nothing is left but the cgroup.
pub(crate) fn create(plan: &Plan, cgroup: &Cgroup) -> Result<Created> {
    let trees = HostTrees::open(plan)?;
    let (ours, theirs) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
    .map_err(|e| Error::system("make a socket pair", e))?;
    let group = cgroup.unified_fd();
    // cgroup and time namespaces are made by the child, once it is in its cgroup and knows its clocks.
    let at_birth = plan.namespaces & !(libc::CLONE_NEWCGROUP | process::CLONE_NEWTIME);
    // SAFETY: the callers of this crate's creating functions are single-threaded, as the module demands.
    let made = unsafe { clone_process(at_birth, group.as_ref()) };
    match made.map_err(|e| Error::system("make the container's namespaces", e))? {
        Clone::Child => {
            drop(ours);
            child::run(plan, &trees, &theirs)
        }
        Clone::Parent(pid, pidfd) => {
            drop(theirs);
            let mut created = Created {
                pid,
                pidfd,
                console: None,
                sync: ours,
            };
            match created.complete(plan, cgroup, &trees, group.is_none()) {
                Ok(()) => Ok(created),
                Err(error) => {
                    drop(process::pidfd_kill(&created.pidfd, libc::SIGKILL));
                    // SAFETY: waits for our own child, without a status.
                    unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
                    Err(error)
                }
            }
        }
    }
}

impl Created {
    fn complete(
        &mut self,
        plan: &Plan,
        cgroup: &Cgroup,
        trees: &HostTrees,
        join_unified: bool,
    ) -> Result<()> {
        let proc = format!("/proc/{}", self.pid);
        let write = |file: &str, text: &str| {
            let path = format!("{proc}/{file}");
            fs::write(&path, text).map_err(|source| Error::file("write", path, source))
        };
        if plan.namespaces & libc::CLONE_NEWUSER != 0 {
            write("uid_map", &IdExtent::table(&plan.uid_map))?;
            write("gid_map", &IdExtent::table(&plan.gid_map))?;
        }
        cgroup.add(self.pid, join_unified)?;
        for limit in &plan.process.rlimits {
            self.set_rlimit(limit.resource, limit.soft, limit.hard)?;
        }
        if let Some(score) = plan.process.oom_score_adj {
            write("oom_score_adj", &score.to_string())?;
        }
        if plan.shifts() {
            let path = format!("{proc}/ns/user");
            let namespace = fs::File::open(&path).map_err(|e| Error::file("open", path, e))?;
            trees.shift(plan, &namespace.into())?;
        }
        self.send(message::GO)?;
        let (answer, console) = self.receive()?;
        match answer.split_first() {
            Some((&message::READY, _)) => {
                self.console = console;
                Ok(())
            }
            Some((&message::ERROR, text)) => Err(Error::Child(String::from_utf8_lossy(text).into_owned())),
            _ => Err(Error::Child("the first process died without a word".to_owned())),
        }
    }

    fn set_rlimit(&self, resource: u32, soft: u64, hard: u64) -> Result<()> {
        let limit = libc::rlimit {
            rlim_cur: soft,
            rlim_max: hard,
        };
        // SAFETY: `limit` is valid for the call, the old value is not wanted.
        let result = unsafe { libc::prlimit(self.pid, resource, &raw const limit, std::ptr::null_mut()) };
        crate::sys::done(result.into())
            .map_err(|e| Error::system(format!("set process limit {resource} to {soft}:{hard}"), e))
    }

    fn send(&self, what: u8) -> Result<()> {
        process::send(&self.sync, &[what], None).map_err(|e| Error::system("talk to the first process", e))
    }

    fn receive(&self) -> Result<(Vec<u8>, Option<OwnedFd>)> {
        let failed = |e: io::Error| Error::system("hear from the first process", e);
        let mut watched = [PollFd::new(self.sync.as_fd(), PollFlags::POLLIN)];
        let ready = loop {
            match poll(&mut watched, PollTimeout::from(PATIENCE_MS)) {
                Err(nix::errno::Errno::EINTR) => {}
                answer => break answer.map_err(|e| failed(e.into()))?,
            }
        };
        if ready == 0 {
            return Err(failed(io::Error::from_raw_os_error(libc::ETIMEDOUT)));
        }
        process::receive(&self.sync).map_err(failed)
    }

    /// Lets init execute; returns when it has, or why it could not.
    pub(crate) fn start(&self) -> Result<()> {
        self.send(message::START)?;
        let (answer, _) = self.receive()?;
        match answer.split_first() {
            None => Ok(()),
            Some((_, text)) => Err(Error::Child(String::from_utf8_lossy(text).into_owned())),
        }
    }
}
