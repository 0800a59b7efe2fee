//! Reading the host's hardware from `/proc` and `/sys`. What cannot be read is left out, never an error.

mod cpu;
mod devices;
mod memory;

use std::fs;
use std::path::Path;

use api::resources::{Load, Resources, System};

/// Reads everything.
pub fn read() -> Resources {
    Resources {
        cpu: cpu::read(),
        memory: memory::read(),
        network: devices::network(),
        storage: devices::storage(),
        pci: devices::pci(),
        system: system(),
        load: load(),
        ..Resources::default()
    }
}

/// A file's text without the line end; nothing when it cannot be read.
fn text(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// A file's number, decimal.
fn number(path: impl AsRef<Path>) -> Option<u64> {
    text(path)?.parse().ok()
}

/// Names in a directory, sorted.
fn names(path: impl AsRef<Path>) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(path)
        .map(|entries| {
            entries
                .flatten()
                .filter_map(|entry| entry.file_name().into_string().ok())
                .collect()
        })
        .unwrap_or_default();
    names.sort();
    names
}

/// Numbers of entries that are called `prefix` and a number: `cpu0`, `node1`.
fn numbered(path: impl AsRef<Path>, prefix: &str) -> Vec<u64> {
    let mut found: Vec<u64> = names(path)
        .iter()
        .filter_map(|name| name.strip_prefix(prefix)?.parse().ok())
        .collect();
    found.sort_unstable();
    found
}

fn system() -> System {
    let dmi = |name: &str| text(Path::new("/sys/class/dmi/id").join(name)).unwrap_or_default();
    // Only a virtual machine's processors say that there is a hypervisor (CPUID 1, ECX bit 31).
    let virtual_machine = text("/proc/cpuinfo").is_some_and(|cpuinfo| cpuinfo.contains(" hypervisor"));
    System {
        uuid: dmi("product_uuid").to_lowercase(),
        vendor: dmi("sys_vendor"),
        product: dmi("product_name"),
        family: dmi("product_family"),
        version: dmi("product_version"),
        sku: dmi("product_sku"),
        serial: dmi("product_serial"),
        kind: if virtual_machine {
            "virtual-machine"
        } else {
            "physical"
        }
        .to_owned(),
        ..System::default()
    }
}

/// `0.65 0.47 1.01 1/103 4242` (proc(5)).
fn load() -> Load {
    let line = text("/proc/loadavg").unwrap_or_default();
    let mut words = line.split(' ');
    let mut average = || words.next().and_then(|word| word.parse().ok()).unwrap_or(0.0);
    Load {
        average_1_min: average(),
        average_5_min: average(),
        average_10_min: average(),
        processes: words
            .next()
            .and_then(|word| word.split_once('/')?.1.parse().ok())
            .unwrap_or(0),
    }
}
