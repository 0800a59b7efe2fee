//! `limits.*`: what an instance may use, read from its configuration.

use container_runtime::spec::Limits;

use super::expand::Expanded;
use crate::ApiError;

/// Memory of a virtual machine without `limits.memory`, as in Incus.
pub const DEFAULT_VM_MEMORY: u64 = 1 << 30;
/// The kernel's scheduling period, in microseconds.
const PERIOD_US: u64 = 100_000;

/// Which processors an instance may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cpus {
    /// This many.
    Count(u64),
    /// These, as `0-1,3`.
    Set(String),
}

fn invalid(key: &str, value: &str, what: &str) -> ApiError {
    ApiError::bad_request(format!("Invalid value {value:?} for {key:?}: {what}"))
}

/// Reads `limits.cpu`.
pub fn cpus(value: &str) -> Result<Option<Cpus>, ApiError> {
    if value.is_empty() {
        return Ok(None);
    }
    if let Ok(count) = value.parse::<u64>() {
        return match count {
            0 => Err(invalid("limits.cpu", value, "an instance needs a processor")),
            _ => Ok(Some(Cpus::Count(count))),
        };
    }
    let number = |text: &str| {
        text.parse::<u32>()
            .map_err(|_| invalid("limits.cpu", value, "use a number or a set such as 0-1,3"))
    };
    for part in value.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if number(first)? > number(last)? {
            return Err(invalid(
                "limits.cpu",
                value,
                "a range goes from the lower to the higher number",
            ));
        }
    }
    // Incus reads "1" as one processor and "1-1" as the one with number 1.
    Ok(Some(Cpus::Set(value.to_owned())))
}

/// How many processors a set names.
pub fn count_of_set(set: &str) -> u64 {
    set.split(',')
        .filter_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(last.parse::<u64>().ok()?.saturating_sub(first.parse().ok()?) + 1)
        })
        .sum()
}

/// Memory of the host, in bytes.
pub fn host_memory() -> u64 {
    std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
            line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
        })
        .map_or(0, |kib| kib * 1024)
}

/// Reads `limits.memory`: a size, or a share of the host's memory in percent.
pub fn memory(value: &str) -> Result<Option<u64>, ApiError> {
    if value.is_empty() {
        return Ok(None);
    }
    let share = value.strip_suffix('%').map(|percent| percent.parse::<u64>());
    match share {
        Some(Ok(percent @ 1..=100)) => Ok(Some(host_memory() / 100 * percent)),
        Some(_) => Err(invalid("limits.memory", value, "a share is 1% to 100%")),
        None => match crate::config_keys::parse_bytes(value) {
            Ok(0) | Err(_) => Err(invalid(
                "limits.memory",
                value,
                "use a size such as 512MiB, or a share such as 50%",
            )),
            Ok(bytes) => Ok(Some(bytes)),
        },
    }
}

/// What a container may use.
pub fn of_container(config: &Expanded) -> Result<Limits, ApiError> {
    let mut limits = Limits::default();
    match cpus(config.get("limits.cpu"))? {
        Some(Cpus::Count(count)) => limits.cpu_quota_us = Some(count.saturating_mul(PERIOD_US)),
        Some(Cpus::Set(set)) => limits.cpu_set = Some(set),
        None => {}
    }
    allowance(config.get("limits.cpu.allowance"), &mut limits)?;
    let memory = memory(config.get("limits.memory"))?;
    if config.get("limits.memory.enforce") == "soft" {
        limits.memory_soft_bytes = memory;
    } else {
        limits.memory_bytes = memory;
        if config.get("limits.memory.swap") == "false" {
            limits.swap_bytes = memory.map(|_| 0);
        }
    }
    let processes = config.get("limits.processes");
    if !processes.is_empty() {
        let count = processes.parse().ok().filter(|count| *count > 0);
        let count = count.ok_or_else(|| invalid("limits.processes", processes, "use a number above 0"))?;
        limits.pids_max = Some(count);
    }
    Ok(limits)
}

/// `limits.cpu.allowance`: `50%` is a weight under contention, `25ms/100ms` a hard quota.
fn allowance(value: &str, limits: &mut Limits) -> Result<(), ApiError> {
    let wrong = || {
        invalid(
            "limits.cpu.allowance",
            value,
            "use a share such as 50% or a quota such as 25ms/100ms",
        )
    };
    if value.is_empty() {
        return Ok(());
    }
    if let Some(percent) = value.strip_suffix('%') {
        let percent: u64 = percent.parse().map_err(|_| wrong())?;
        limits.cpu_weight = Some(percent.clamp(1, 10_000));
        return Ok(());
    }
    let milliseconds = |text: &str| {
        text.strip_suffix("ms")
            .and_then(|number| number.parse::<u64>().ok())
    };
    let (quota, period) = value.split_once('/').ok_or_else(wrong)?;
    let (quota, period) = (
        milliseconds(quota).ok_or_else(wrong)?,
        milliseconds(period).ok_or_else(wrong)?,
    );
    limits.cpu_quota_us = Some(quota.saturating_mul(1000));
    limits.cpu_period_us = Some(period.saturating_mul(1000));
    Ok(())
}

/// vCPUs and memory of a virtual machine.
pub fn of_vm(config: &Expanded) -> Result<(u8, u64), ApiError> {
    let count = match cpus(config.get("limits.cpu"))? {
        None => 1,
        Some(Cpus::Count(count)) => count,
        Some(Cpus::Set(set)) => count_of_set(&set),
    };
    let vcpus = u8::try_from(count)
        .ok()
        .filter(|count| *count <= vmm::config::MAX_VCPUS)
        .ok_or_else(|| {
            invalid(
                "limits.cpu",
                &count.to_string(),
                "a virtual machine has at most 32 vCPUs",
            )
        })?;
    let memory = memory(config.get("limits.memory"))?.unwrap_or(DEFAULT_VM_MEMORY);
    Ok((vcpus, memory.next_multiple_of(4096)))
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
