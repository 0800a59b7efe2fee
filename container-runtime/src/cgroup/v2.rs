//! Control files of cgroup v2 (kernel documentation, admin-guide/cgroup-v2.rst).

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{Hierarchy, keyed_number, number, write};
use crate::spec::Limits;
use crate::state::Metrics;
use crate::{Error, Result};

const DEFAULT_PERIOD_US: u64 = 100_000;
const FREEZE_PATIENCE: Duration = Duration::from_secs(2);
/// Controllers handed down to containers.
const HANDED_DOWN: &[&str] = &["memory", "pids", "cpu", "cpuset", "io", "hugetlb"];

/// Makes controllers available to the groups below `group`. What the kernel refuses there is missed only when a limit needs it,
/// and reported then.
pub(super) fn offer_controllers(group: &Path) {
    let words = |file: &str| fs::read_to_string(group.join(file)).unwrap_or_default();
    let (available, enabled) = (words("cgroup.controllers"), words("cgroup.subtree_control"));
    let has = |list: &str, name: &str| list.split_ascii_whitespace().any(|word| word == name);
    for name in HANDED_DOWN {
        if has(&available, name) && !has(&enabled, name) {
            drop(fs::write(
                group.join("cgroup.subtree_control"),
                format!("+{name}"),
            ));
        }
    }
}

/// Sets the limits of one controller.
pub(super) fn apply(group: &Path, controller: &str, limits: &Limits) -> Result<()> {
    let or_max = |value: Option<u64>| value.map_or_else(|| "max".to_owned(), |number| number.to_string());
    match controller {
        "memory" => {
            write(&group.join("memory.max"), &or_max(limits.memory_bytes))?;
            write(&group.join("memory.high"), &or_max(limits.memory_soft_bytes))?;
            let swap = group.join("memory.swap.max");
            if swap.exists() {
                write(&swap, &or_max(limits.swap_bytes))
            } else {
                Ok(())
            }
        }
        "cpu" => {
            write(
                &group.join("cpu.weight"),
                &limits.cpu_weight.unwrap_or(100).to_string(),
            )?;
            let period = limits.cpu_period_us.unwrap_or(DEFAULT_PERIOD_US);
            write(
                &group.join("cpu.max"),
                &format!("{} {period}", or_max(limits.cpu_quota_us)),
            )
        }
        // An empty list stands for all processors of the parent.
        "cpuset" => write(
            &group.join("cpuset.cpus"),
            limits.cpu_set.as_deref().unwrap_or("\n"),
        ),
        "pids" => write(&group.join("pids.max"), &or_max(limits.pids_max)),
        _ => Ok(()),
    }
}

/// Adds what this hierarchy measures.
pub(super) fn measure(group: &Path, hierarchy: &Hierarchy, metrics: &mut Metrics) {
    let read = |file: &str| number(&group.join(file));
    if metrics.cpu_usage_ns == 0 {
        // Every group has cpu.stat, with or without the cpu controller.
        metrics.cpu_usage_ns = keyed_number(&group.join("cpu.stat"), "usage_usec")
            .unwrap_or_default()
            .saturating_mul(1000);
    }
    if hierarchy.has("memory") {
        metrics.memory_bytes = read("memory.current").unwrap_or_default();
        metrics.memory_peak_bytes = read("memory.peak").unwrap_or_default();
        metrics.memory_limit_bytes = read("memory.max");
        metrics.swap_bytes = read("memory.swap.current").unwrap_or_default();
        metrics.oom_kills = keyed_number(&group.join("memory.events"), "oom_kill").unwrap_or_default();
    }
    if hierarchy.has("pids") {
        metrics.pids = read("pids.current").unwrap_or_default();
        metrics.pids_limit = read("pids.max");
    }
}

/// Freezes or thaws, and waits until it is so.
pub(super) fn freeze(group: &Path, frozen: bool) -> Result<()> {
    write(&group.join("cgroup.freeze"), if frozen { "1" } else { "0" })?;
    let events = group.join("cgroup.events");
    let deadline = Instant::now() + FREEZE_PATIENCE;
    while keyed_number(&events, "frozen") != Some(u64::from(frozen)) {
        if Instant::now() > deadline {
            return Err(Error::file(
                "freeze",
                group,
                std::io::Error::from_raw_os_error(libc::ETIMEDOUT),
            ));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
