//! Processors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use api::resources::{Cpu, CpuCache, CpuCore, CpuSocket, CpuThread};

use super::{names, number, numbered, text};

const CPUS: &str = "/sys/devices/system/cpu";

pub(super) fn read() -> Cpu {
    let cpuinfo = text("/proc/cpuinfo").unwrap_or_default();
    let info = |key: &str| {
        cpuinfo
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.trim() == key)
            .map(|(_, value)| value.trim().to_owned())
            .unwrap_or_default()
    };
    let flags: Vec<String> = info("flags").split_whitespace().map(str::to_owned).collect();
    let isolated = text(Path::new(CPUS).join("isolated")).unwrap_or_default();
    let mut sockets: BTreeMap<u64, CpuSocket> = BTreeMap::new();
    let mut total = 0;
    for cpu in numbered(CPUS, "cpu") {
        let path = PathBuf::from(format!("{CPUS}/cpu{cpu}"));
        let topology = |name: &str| number(path.join("topology").join(name));
        let Some(core_id) = topology("core_id") else {
            continue;
        };
        let socket_id = topology("physical_package_id").unwrap_or(0);
        let socket = sockets.entry(socket_id).or_insert_with(|| CpuSocket {
            name: info("model name"),
            vendor: info("vendor_id"),
            socket: socket_id,
            cache: caches(&path),
            frequency: current_frequency(&path),
            frequency_minimum: kilohertz(&path, "cpuinfo_min_freq"),
            frequency_turbo: kilohertz(&path, "cpuinfo_max_freq"),
            ..CpuSocket::default()
        });
        let die = topology("die_id").unwrap_or(0);
        let index = socket
            .cores
            .iter()
            .position(|core| core.core == core_id && core.die == die);
        let index = index.unwrap_or_else(|| {
            socket.cores.push(CpuCore {
                core: core_id,
                die,
                flags: flags.clone(),
                frequency: current_frequency(&path),
                ..CpuCore::default()
            });
            socket.cores.len() - 1
        });
        let threads = &mut socket.cores[index].threads;
        threads.push(CpuThread {
            id: i64::try_from(cpu).unwrap_or(-1),
            numa_node: numbered(&path, "node").first().copied().unwrap_or(0),
            thread: threads.len() as u64,
            // cpu0 often cannot be switched off and has no such file.
            online: number(path.join("online")).unwrap_or(1) == 1,
            isolated: in_list(&isolated, cpu),
        });
        total += 1;
    }
    let architecture = nix::sys::utsname::uname()
        .map(|uname| uname.machine().to_string_lossy().into_owned())
        .unwrap_or_default();
    Cpu {
        architecture,
        sockets: sockets.into_values().collect(),
        total,
    }
}

fn kilohertz(cpu: &Path, name: &str) -> Option<u64> {
    number(cpu.join("cpufreq").join(name)).map(|kilohertz| kilohertz / 1000)
}

fn current_frequency(cpu: &Path) -> Option<u64> {
    kilohertz(cpu, "scaling_cur_freq")
}

fn caches(cpu: &Path) -> Vec<CpuCache> {
    let directory = cpu.join("cache");
    names(&directory)
        .iter()
        .filter(|name| name.starts_with("index"))
        .filter_map(|name| {
            let file = |file: &str| directory.join(name).join(file);
            Some(CpuCache {
                level: number(file("level"))?,
                kind: text(file("type"))?,
                size: text(file("size"))?.strip_suffix('K')?.parse::<u64>().ok()? * 1024,
            })
        })
        .collect()
}

/// Whether a kernel's list of numbers (`0-3,8`) has one.
fn in_list(list: &str, wanted: u64) -> bool {
    list.split(',').any(|part| match part.split_once('-') {
        Some((first, last)) => {
            first.parse().is_ok_and(|first: u64| first <= wanted)
                && last.parse().is_ok_and(|last: u64| wanted <= last)
        }
        None => part.parse() == Ok(wanted),
    })
}

#[cfg(test)]
mod tests {
    use super::in_list;

    #[test]
    fn kernel_lists_have_numbers_and_ranges() {
        assert!(in_list("0-3,8", 2) && in_list("0-3,8", 8));
        assert!(!in_list("0-3,8", 4) && !in_list("", 0));
    }
}
