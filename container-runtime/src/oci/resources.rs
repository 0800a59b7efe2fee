//! A bundle's resource limits and device rules (config-linux.md, "Control groups").

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType, Spec};

use crate::Result;
use crate::cgroup::{DeviceKind, DeviceRule};
use crate::launch::{Plan, system};
use crate::spec::Limits;

/// 1024 shares of cgroup v1 are weight 100 of v2.
const SHARES_OF_WEIGHT_100: u64 = 1024;

/// Limits, and rules for devices: those of the bundle, then what every container has.
pub(super) fn convert(spec: &Spec, plan: &Plan) -> Result<(Limits, Vec<DeviceRule>)> {
    let mut limits = Limits::default();
    let mut rules = Vec::new();
    if let Some(resources) = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref()) {
        // -1 and 0 stand for "no limit".
        let positive = |value: Option<i64>| value.and_then(|n| u64::try_from(n).ok()).filter(|&n| n > 0);
        if let Some(memory) = resources.memory() {
            limits.memory_bytes = positive(memory.limit());
            limits.memory_soft_bytes = positive(memory.reservation());
            // The bundle's number is memory and swap together.
            limits.swap_bytes = positive(memory.swap())
                .zip(limits.memory_bytes)
                .map(|(both, memory)| both.saturating_sub(memory));
        }
        if let Some(cpu) = resources.cpu() {
            limits.cpu_quota_us = positive(cpu.quota());
            limits.cpu_period_us = cpu.period().filter(|&period| period > 0);
            limits.cpu_weight = cpu
                .shares()
                .filter(|&shares| shares > 0)
                .map(|shares| (shares.saturating_mul(100) / SHARES_OF_WEIGHT_100).clamp(1, 10_000));
            limits.cpu_set = cpu.cpus().clone().filter(|cpus| !cpus.is_empty());
        }
        if let Some(pids) = resources.pids() {
            limits.pids_max = positive(Some(pids.limit()));
        }
        rules.extend(resources.devices().iter().flatten().filter_map(rule));
    }
    limits.validate()?;
    rules.extend(system::device_rules(plan));
    Ok((limits, rules))
}

/// `None` for "deny everything", which is where each filter starts.
fn rule(device: &LinuxDeviceCgroup) -> Option<DeviceRule> {
    let kind = match device.typ() {
        Some(LinuxDeviceType::B) => DeviceKind::Block,
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => DeviceKind::Character,
        _ => DeviceKind::All,
    };
    let number = |n: Option<i64>| n.and_then(|n| u32::try_from(n).ok());
    let (major, minor) = (number(device.major()), number(device.minor()));
    if !device.allow() && kind == DeviceKind::All && major.is_none() {
        return None;
    }
    let access = device.access().clone().unwrap_or_else(|| "rwm".to_owned());
    let has = |letter| access.contains(letter);
    Some(DeviceRule {
        kind,
        major,
        minor,
        read: has('r'),
        write: has('w'),
        mknod: has('m'),
        allow: device.allow(),
    })
}
