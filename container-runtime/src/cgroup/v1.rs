//! Control files of cgroup v1 (kernel documentation, admin-guide/cgroup-v1).

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{DeviceRule, Hierarchy, children, keyed_number, number, write};
use crate::spec::Limits;
use crate::state::Metrics;
use crate::{Error, Result};

/// Weight 100 of v2 is 1024 shares of v1; fewer than 2 are refused (sched-design-CFS).
const SHARES_PER_WEIGHT: f64 = 10.24;
const DEFAULT_PERIOD_US: u64 = 100_000;
/// Freezing waits for processes that are in the kernel; the monitor must not be held up by one that never leaves.
const FREEZE_PATIENCE: Duration = Duration::from_secs(2);

/// What a new group needs before it takes processes.
pub(super) fn prepare(group: &Path, parent: &Path, hierarchy: &Hierarchy) -> Result<()> {
    if hierarchy.has("cpuset") {
        // New groups have no processors and no memory nodes (cpusets.rst §2.2); groups made below inherit them.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let read = |path: std::path::PathBuf| {
                fs::read_to_string(&path).map_err(|e| Error::file("read", path, e))
            };
            // Whoever made the group may not have come to this yet.
            if read(group.join(file))?.trim().is_empty() {
                write(&group.join(file), read(parent.join(file))?.trim())?;
            }
        }
        write(&group.join("cgroup.clone_children"), "1")?;
    }
    if hierarchy.has("memory") {
        // Kernels before 5.11 count each group for itself unless told; later ones always count hierarchically.
        drop(fs::write(group.join("memory.use_hierarchy"), "1"));
    }
    Ok(())
}

/// Only the given devices can be opened.
pub(super) fn set_devices(group: &Path, rules: &[DeviceRule]) -> Result<()> {
    write(&group.join("devices.deny"), "a")?;
    let allow = group.join("devices.allow");
    rules
        .iter()
        .filter(|rule| rule.allow)
        .try_for_each(|rule| write(&allow, &rule.to_string()))?;
    let deny = group.join("devices.deny");
    rules
        .iter()
        .filter(|rule| !rule.allow)
        .try_for_each(|rule| write(&deny, &rule.to_string()))
}

/// Sets the limits of one controller.
pub(super) fn apply(group: &Path, controller: &str, limits: &Limits) -> Result<()> {
    let or_unlimited = |value: Option<u64>| value.map_or_else(|| "-1".to_owned(), |bytes| bytes.to_string());
    match controller {
        "memory" => {
            let memory = or_unlimited(limits.memory_bytes);
            let both = match (limits.memory_bytes, limits.swap_bytes) {
                (Some(memory), Some(swap)) => Some(memory.saturating_add(swap)),
                _ => None,
            };
            let limit = group.join("memory.limit_in_bytes");
            let with_swap = group.join("memory.memsw.limit_in_bytes");
            // The sum may never be below the memory alone (memory.rst §2.4): raise the one first, or lower the other first.
            if with_swap.exists() {
                drop(fs::write(&with_swap, "-1"));
            }
            write(&limit, &memory)?;
            if with_swap.exists() {
                write(&with_swap, &or_unlimited(both))?;
            }
            if limits.memory_soft_bytes.is_some() {
                write(
                    &group.join("memory.soft_limit_in_bytes"),
                    &or_unlimited(limits.memory_soft_bytes),
                )?;
            }
            Ok(())
        }
        "cpu" => {
            let weight = limits.cpu_weight.unwrap_or(100) as f64;
            write(
                &group.join("cpu.shares"),
                &((weight * SHARES_PER_WEIGHT) as u64).max(2).to_string(),
            )?;
            let quota = group.join("cpu.cfs_quota_us");
            if limits.cpu_quota_us.is_some() || quota.exists() {
                write(
                    &group.join("cpu.cfs_period_us"),
                    &limits.cpu_period_us.unwrap_or(DEFAULT_PERIOD_US).to_string(),
                )?;
                write(&quota, &or_unlimited(limits.cpu_quota_us))?;
            }
            Ok(())
        }
        "cpuset" => match &limits.cpu_set {
            Some(set) => {
                // A child may not have what its parent has not: the payload is narrowed first, widened last.
                let file = "cpuset.cpus";
                let inner = children(group);
                inner
                    .iter()
                    .for_each(|child| drop(fs::write(child.join(file), set)));
                write(&group.join(file), set)?;
                inner.iter().try_for_each(|child| write(&child.join(file), set))
            }
            None => Ok(()),
        },
        "pids" => {
            let max = limits
                .pids_max
                .map_or_else(|| "max".to_owned(), |max| max.to_string());
            write(&group.join("pids.max"), &max)
        }
        _ => Ok(()),
    }
}

/// Adds what this hierarchy measures.
pub(super) fn measure(group: &Path, hierarchy: &Hierarchy, metrics: &mut Metrics) {
    let read = |file: &str| number(&group.join(file));
    if hierarchy.has("cpuacct") {
        metrics.cpu_usage_ns = read("cpuacct.usage").unwrap_or_default();
    }
    if hierarchy.has("memory") {
        let usage = read("memory.usage_in_bytes").unwrap_or_default();
        metrics.memory_bytes = usage;
        metrics.memory_peak_bytes = read("memory.max_usage_in_bytes").unwrap_or_default();
        // Unlimited is the largest page-aligned signed number.
        metrics.memory_limit_bytes = read("memory.limit_in_bytes").filter(|&limit| limit < (1 << 62));
        metrics.swap_bytes = read("memory.memsw.usage_in_bytes").map_or(0, |both| both.saturating_sub(usage));
        metrics.oom_kills = oom_kills(group);
    }
    if hierarchy.has("pids") {
        metrics.pids = read("pids.current").unwrap_or_default();
        metrics.pids_limit = read("pids.max");
    }
}

/// v1 counts a kill only in the group of the killed process.
fn oom_kills(group: &Path) -> u64 {
    let own = keyed_number(&group.join("memory.oom_control"), "oom_kill").unwrap_or_default();
    own + children(group).iter().map(|child| oom_kills(child)).sum::<u64>()
}

/// Freezes or thaws (freezer-subsystem.rst).
pub(super) fn freeze(group: &Path, frozen: bool) -> Result<()> {
    let file = group.join("freezer.state");
    let wanted = if frozen { "FROZEN" } else { "THAWED" };
    let deadline = Instant::now() + FREEZE_PATIENCE;
    loop {
        write(&file, wanted)?;
        let state = fs::read_to_string(&file).map_err(|e| Error::file("read", &file, e))?;
        if state.trim() == wanted {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Error::file(
                "freeze",
                &file,
                std::io::Error::from_raw_os_error(libc::ETIMEDOUT),
            ));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
