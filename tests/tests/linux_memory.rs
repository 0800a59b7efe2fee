//! Linux on sockets and NUMA nodes, with memory that comes and goes while it runs.

#![allow(clippy::expect_used, reason = "a step that fails fails the test")]

use std::path::Path;
use std::process::Command;

use end_to_end::{Guest, virtual_machines_run_here};
use serde_json::{Value, json};
use vmm::client::Client;

const MIB: u64 = 1 << 20;

/// What the guest's loop has printed last: bytes of memory it has.
fn total(guest: &Guest) -> Option<u64> {
    let console = guest.console();
    let last = console
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("total "))?;
    last.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

fn metric(client: &Client, device: &str, path: &str) -> u64 {
    let metrics = client.metrics().expect("metrics");
    let value = metrics
        .devices
        .get(device)
        .and_then(|device| device.pointer(path));
    value.and_then(Value::as_u64).unwrap_or(0)
}

/// Waits until the guest has this much memory, give or take what Linux keeps for itself.
fn wait_for_total(guest: &mut Guest, wanted: u64) {
    guest.until(&format!("{wanted} bytes of memory"), |guest| {
        total(guest).filter(|total| total.abs_diff(wanted) < 8 * MIB)
    });
}

#[test]
fn linux_sees_its_nodes_and_takes_and_gives_memory_while_it_runs() {
    if !virtual_machines_run_here("linux_sees_its_nodes_and_takes_and_gives_memory_while_it_runs") {
        return;
    }
    let script = "cd /sys/devices/system
        echo packages $(cat cpu/cpu0/topology/physical_package_id cpu/cpu1/topology/physical_package_id)
        echo nodes $(cat node/online), of node 1: cpus $(cat node/node1/cpulist), distances $(cat node/node1/distance)
        grep MemTotal node/node1/meminfo
        echo online_movable >memory/auto_online_blocks
        while :; do echo total $(awk '/MemTotal/ {print $2}' /proc/meminfo); sleep 1; done";
    let mut guest = Guest::start(script, |config| {
        config["vcpus"] = json!(2);
        config["cpu"] = json!({"topology": {"sockets": 2, "cores": 1, "threads": 1}});
        config["memory_bytes"] = json!(224 * MIB);
        config["memory"] = json!({
            "nodes": [{"vcpus": "0", "memory_bytes": 160 * MIB}, {"vcpus": "1", "memory_bytes": 64 * MIB}],
            "distances": [[10, 25], [25, 10]],
            "hotplug": {"max_bytes": 1024 * MIB, "node": 1},
        });
        config["balloon"] = json!({"deflate_on_oom": false, "statistics_interval_s": 1});
    });
    let client = guest.client();
    let start = guest.until("the first size", total);
    let console = guest.console();
    for expected in ["packages 0 1", "nodes 0-1, of node 1: cpus 1, distances 25 10"] {
        assert!(console.contains(expected), "{console}");
    }

    let request = |bytes: u64| {
        let update = json!({"requested_bytes": bytes});
        client.update_device("memory", &update).expect("a new size");
    };
    request(256 * MIB);
    wait_for_total(&mut guest, start + 256 * MIB);
    assert_eq!(metric(&client, "memory", "/plugged_bytes"), 256 * MIB);
    request(0);
    wait_for_total(&mut guest, start);
    assert_eq!(metric(&client, "memory", "/plugged_bytes"), 0);

    let inflate = |bytes: u64| {
        let update = json!({"target_bytes": bytes});
        client.update_device("balloon", &update).expect("a new target");
    };
    inflate(48 * MIB);
    wait_for_total(&mut guest, start - 48 * MIB);
    guest.until("the balloon's size", |_| {
        (metric(&client, "balloon", "/actual_bytes") == 48 * MIB).then_some(())
    });
    assert!(metric(&client, "balloon", "/discarded_bytes") >= 48 * MIB);
    inflate(0);
    wait_for_total(&mut guest, start);
    for told in ["/guest/updates", "/guest/total_bytes", "/reported_bytes"] {
        guest.until(told, |_| (metric(&client, "balloon", told) > 0).then_some(()));
    }
    assert_eq!(metric(&client, "balloon", "/failures"), 0);
    client.stop().expect("stop");
}

/// A file with an ext4 that holds one file.
fn file_system(path: &Path, contents: &Path) {
    std::fs::File::create(path)
        .and_then(|file| file.set_len(16 * MIB))
        .expect("make a file");
    let status = Command::new("mkfs.ext4")
        .args(["-q", "-F", "-b", "4096", "-d"])
        .args([contents, path])
        .status();
    assert!(status.expect("mkfs.ext4").success());
}

#[test]
fn linux_runs_files_of_persistent_memory_in_place_and_flushes_to_the_hosts_file() {
    if !virtual_machines_run_here(
        "linux_runs_files_of_persistent_memory_in_place_and_flushes_to_the_hosts_file",
    ) {
        return;
    }
    let folder = tempfile::tempdir().expect("a scratch directory");
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("contents")).expect("make a folder");
    std::fs::write(path("contents/greeting"), "from the host's page cache").expect("write a file");
    file_system(&path("shared"), &path("contents"));
    file_system(&path("own"), &path("contents"));
    let before = std::fs::read(path("shared")).expect("read the shared file");
    let script = "mkdir /s /o
        mount -t ext4 -o ro,dax /dev/pmem0 /s && echo read: $(cat /s/greeting); grep pmem0 /proc/mounts
        mount -t ext4 -o dax /dev/pmem1 /o && echo to the host >/o/greeting && sync && echo synced
        dd if=/dev/zero of=/dev/pmem0 bs=4096 count=1 2>/dev/null
        umount /o; poweroff -f";
    let guest = Guest::start(script, |config| {
        config["pmem"] = json!([
            {"id": "shared", "path": path("shared"), "read_only": true}, {"id": "own", "path": path("own")},
        ]);
    });
    let (console, report) = guest.end();
    assert_eq!(report["reason"], "poweroff", "{report} {console}");
    for expected in ["read: from the host's page cache", "dax", "synced"] {
        assert!(console.contains(expected), "{expected}: {console}");
    }
    assert_eq!(
        std::fs::read(path("shared")).expect("read it again"),
        before,
        "{console}"
    );
    let output = Command::new("debugfs")
        .args(["-R", "cat greeting"])
        .arg(path("own"))
        .output()
        .expect("debugfs");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "to the host\n",
        "{console}"
    );
}

#[test]
fn linux_sees_a_processor_of_a_level_with_threads_and_finds_persistent_memory() {
    if !virtual_machines_run_here(
        "linux_sees_a_processor_of_a_level_with_threads_and_finds_persistent_memory",
    ) {
        return;
    }
    let folder = tempfile::tempdir().expect("a scratch directory");
    let file = |name: &str, bytes: usize| {
        let path = folder.path().join(name);
        std::fs::write(&path, vec![b'p'; bytes]).expect("write a file");
        path
    };
    // What is missing to a multiple of 2 MiB is added.
    let (shared, own) = (file("shared", 3 << 20), file("own", 2 << 20));
    let script = "echo siblings $(cat /sys/devices/system/cpu/cpu1/topology/thread_siblings_list)
        flags=\" $(grep -m 1 ^flags /proc/cpuinfo) \"
        for name in ssse3 sse4_2 popcnt avx avx2 rdrand svm xsave
        do case \"$flags\" in *\" $name \"*) echo with $name;; *) echo without $name;; esac; done
        cd /sys/bus/nd/devices; echo persistent $(cat region0/size region1/size)
        poweroff -f";
    let guest = Guest::start(script, |config| {
        config["vcpus"] = json!(2);
        config["cpu"] = json!({
            "topology": {"sockets": 1, "cores": 1, "threads": 2},
            "model": "x86-64-v2", "features": ["-popcnt"],
        });
        config["pmem"] = json!([
            {"id": "shared", "path": shared, "read_only": true}, {"id": "own", "path": own},
        ]);
    });
    let (console, report) = guest.end();
    assert_eq!(report["reason"], "poweroff", "{report} {console}");
    for expected in [
        "siblings 0-1",
        "with ssse3",
        "with sse4_2",
        "without popcnt",
        "without avx",
        "without rdrand",
        "without svm",
        "without xsave",
        "persistent 4194304 2097152",
    ] {
        assert!(console.contains(expected), "{expected}: {console}");
    }
}
