//! crun refuses hosts that have cgroup v1 with a v2 hierarchy beside it when the latter has controllers. What the
//! containers here need is in v1, so such hosts are shown to all runtimes without the v2 mount, in a mount namespace of
//! this process that lasts as long as the measurement.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

const UNIFIED: &str = "/sys/fs/cgroup/unified";

/// The view of one hierarchy. Back to the old view when dropped.
pub(crate) struct OneHierarchy {
    /// The mount namespace to go back to, if this is another one.
    outer: Option<File>,
}

impl OneHierarchy {
    /// Hides the v2 hierarchy where there are both.
    pub(crate) fn enter() -> Result<Self> {
        let controllers =
            fs::read_to_string(Path::new(UNIFIED).join("cgroup.controllers")).unwrap_or_default();
        if controllers.trim().is_empty() {
            return Ok(Self { outer: None });
        }
        let outer = File::open("/proc/self/ns/mnt").context("cannot open this process' mount namespace")?;
        unshare(CloneFlags::CLONE_NEWNS).context("cannot make a mount namespace")?;
        let view = Self { outer: Some(outer) };
        mount(
            None::<&str>,
            "/",
            None::<&str>,
            MsFlags::MS_REC | MsFlags::MS_PRIVATE,
            None::<&str>,
        )
        .context("cannot make mounts private")?;
        umount2(UNIFIED, MntFlags::MNT_DETACH).with_context(|| format!("cannot hide {UNIFIED}"))?;
        Ok(view)
    }
}

impl Drop for OneHierarchy {
    fn drop(&mut self) {
        if let Some(outer) = &self.outer
            && let Err(error) = setns(outer, CloneFlags::CLONE_NEWNS)
        {
            eprintln!("container: cannot go back to the mount namespace: {error}");
        }
    }
}
