//! What the memory section may and may not say.

use super::*;

fn problem(section: serde_json::Value) -> String {
    let config: MemoryConfig = serde_json::from_value(section).unwrap();
    config.check(1 << 30, 4).unwrap_err().to_string()
}

#[test]
fn nodes_share_out_all_memory_and_all_vcpus() {
    let section = serde_json::json!({"nodes": [
        {"vcpus": "0-1", "memory_bytes": 256 << 20},
        {"vcpus": "2,3", "memory_bytes": 768 << 20, "host_nodes": "0"},
    ], "distances": [[10, 31], [31, 10]]});
    let config: MemoryConfig = serde_json::from_value(section).unwrap();
    config.check(1 << 30, 4).unwrap();
    assert_eq!((config.distance(0, 1), config.distance(1, 1)), (31, 10));
    assert_eq!(MemoryConfig::default().distance(0, 1), 20);
}

#[test]
fn nodes_that_do_not_add_up_are_refused() {
    let node = |vcpus: &str, mib: u64| serde_json::json!({"vcpus": vcpus, "memory_bytes": mib << 20});
    for (nodes, expected) in [
        (vec![node("0-3", 512)], "add up to memory_bytes (1073741824)"),
        (vec![node("0-2", 1024)], "without vCPU 3"),
        (
            vec![node("0-4", 1024)],
            "`memory.nodes[0].vcpus` is 0-4: the VM has vCPUs 0 to 3",
        ),
        (
            vec![node("0-3", 512), node("3", 512)],
            "`memory.nodes[1].vcpus` is 3: vCPU 3 is in node 0 already",
        ),
        (vec![node("0-3", 1023)], "use a multiple of 2097152"),
        (vec![node("0-3", 0)], "use a multiple of 2097152"),
        (vec![node("0", 2); 33], "at most 32 nodes"),
    ] {
        let problem = problem(serde_json::json!({"nodes": nodes}));
        assert!(problem.contains(expected), "{problem}");
    }
    let two = [node("0-1", 512), node("2-3", 512)];
    for distances in [
        serde_json::json!([[10]]),
        serde_json::json!([[10, 20], [20]]),
        serde_json::json!([[20, 20], [20, 10]]),
        serde_json::json!([[10, 20], [10, 10]]),
    ] {
        let problem = problem(serde_json::json!({"nodes": two, "distances": distances}));
        assert!(problem.contains("memory.distances"), "{problem}");
    }
}

#[test]
fn huge_pages_divide_the_memory() {
    let config = MemoryConfig {
        hugepages: HugePages::Of1GiB,
        ..Default::default()
    };
    config.check(2 << 30, 1).unwrap();
    let problem = config.check(3 << 29, 1).unwrap_err().to_string();
    assert!(
        problem.contains("has to be a multiple of 1073741824"),
        "{problem}"
    );
}

#[test]
fn hotplug_comes_in_whole_blocks_within_the_address_space() {
    let hotplug = |max: u64, block: u64, requested: u64| serde_json::json!({"hotplug": {"max_bytes": max, "block_bytes": block, "requested_bytes": requested}});
    let (mib, gib) = (1u64 << 20, 1u64 << 30);
    for (section, expected) in [
        (hotplug(gib, mib, 0), "block_bytes"),
        (hotplug(gib, 3 * mib, 0), "block_bytes"),
        (hotplug(0, 2 * mib, 0), "max_bytes"),
        (hotplug(3 * mib, 2 * mib, 0), "max_bytes"),
        (hotplug(1 << 40, 2 * mib, 0), "together with memory_bytes"),
        (
            hotplug(u64::MAX - 2 * mib + 1, 2 * mib, 0),
            "together with memory_bytes",
        ),
        (hotplug(gib, 2 * mib, 2 * gib), "requested_bytes"),
        (hotplug(gib, 2 * mib, mib), "requested_bytes"),
    ] {
        let problem = problem(section);
        assert!(problem.contains(expected), "{problem}");
    }
    let section = serde_json::json!({"hotplug": {"max_bytes": gib, "node": 1}});
    assert!(problem(section).contains("the VM has nodes 0 to 0"));
    let section = serde_json::json!({"hugepages": "2MiB", "hotplug": {"max_bytes": gib}});
    assert!(problem(section).contains("use \"transparent\""));
}

#[test]
fn memory_that_the_processor_cannot_address_is_refused() {
    let check = |memory: &MemoryConfig, gib: u64, bits| {
        let checked = memory.check_addresses(gib << 30, bits);
        checked.map_err(|error| error.to_string())
    };
    let plain = MemoryConfig::default();
    // One of the lowest 4 GiB is the devices'.
    assert_eq!(check(&plain, 63, 36), Ok(()));
    assert_eq!(
        check(&plain, 64, 36).unwrap_err(),
        "configuration field `memory_bytes` is 68719476736: it reaches up to address 0x1040000000, but with the 36 bits of \
         physical addresses of this host's processor there are addresses up to 0x1000000000 only; use less"
    );
    let larger: MemoryConfig = serde_json::from_str(r#"{"hotplug": {"max_bytes": 549755813888}}"#).unwrap();
    assert_eq!(check(&larger, 4, 40), Ok(()));
    let refused = check(&larger, 4, 39).unwrap_err();
    assert!(
        refused.contains("with memory.hotplug.max_bytes (549755813888) it reaches"),
        "{refused}"
    );
    assert_eq!(check(&plain, 1024, 57), Ok(()), "what Linux reaches");
}
