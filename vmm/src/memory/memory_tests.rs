//! How guest memory is made.

use super::*;
use crate::config::{HugePages, NodeConfig};
use std::os::unix::fs::FileExt;
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};

fn shared() -> MemoryConfig {
    MemoryConfig {
        shared: true,
        ..Default::default()
    }
}

#[test]
fn private_memory_has_no_descriptor() {
    let memory = create(4 << 20, &MemoryConfig::default()).unwrap();
    assert!(memory.iter().all(|region| region.file_offset().is_none()));
}

#[test]
fn every_region_of_shared_memory_lies_in_the_file_it_names() {
    let memory = create(5 << 30, &shared()).unwrap();
    let mut offset = 0;
    for region in memory.iter() {
        let place = region.file_offset().expect("a file");
        assert_eq!(place.start(), offset);
        offset += region.len();
        write(&memory, region.start_addr().0 + 100, b"guest").unwrap();
        let mut bytes = [0; 5];
        place
            .file()
            .read_exact_at(&mut bytes, place.start() + 100)
            .unwrap();
        assert_eq!(&bytes, b"guest");
        place.file().write_all_at(b"other", place.start() + 200).unwrap();
        memory
            .read_slice(&mut bytes, GuestAddress(region.start_addr().0 + 200))
            .unwrap();
        assert_eq!(&bytes, b"other");
    }
    assert_eq!((memory.num_regions(), offset), (2, 5 << 30));
}

#[test]
fn nobody_changes_the_length_of_shared_memory() {
    let memory = create(4 << 20, &shared()).unwrap();
    let region = memory.iter().next().unwrap();
    let file = region.file_offset().unwrap().file();
    for len in [0, 4096, 8 << 20] {
        let error = file.set_len(len).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{len}: {error}");
    }
}

/// A number of a mapping in `/proc/self/smaps`, in bytes.
fn of_mapping(memory: &Ram, address: u64, field: &str) -> u64 {
    let host = memory.get_host_address(GuestAddress(address)).unwrap() as u64;
    let text = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut here = false;
    for line in text.lines() {
        let (first, rest) = line.split_once(' ').unwrap();
        if let Some((start, end)) = first.split_once('-') {
            let number = |text| u64::from_str_radix(text, 16).unwrap_or(0);
            here = (number(start)..number(end)).contains(&host);
        } else if here && first.strip_suffix(':') == Some(field) {
            return rest.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024;
        }
    }
    panic!("no {field} at {host:#x}");
}

#[test]
fn prefaulted_memory_is_there_and_keeps_what_was_loaded() {
    let config = MemoryConfig {
        prefault: true,
        ..Default::default()
    };
    let memory = create(130 << 20, &config).unwrap();
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, &[7; 8192]).unwrap();
    load_file(&memory, &file, 8192, 0, 0x20_0000, 8192).unwrap();
    prefault(&memory, 130 << 20, &config).unwrap();
    // The kernel may join a mapping with a neighbour that is not ours, so there may be more.
    assert!(of_mapping(&memory, 0, "Rss") >= 2 << 20, "up to the file");
    assert_eq!(
        of_mapping(&memory, 0x20_0000, "Private_Dirty"),
        8192,
        "copied already"
    );
    assert!(of_mapping(&memory, 64 << 20, "Rss") >= (128 << 20) - 8192);
    let mut bytes = [0; 4];
    memory.read_slice(&mut bytes, GuestAddress(0x20_0000)).unwrap();
    assert_eq!(bytes, [7; 4]);
}

#[test]
fn large_pages_are_used_or_refused_with_the_setting_to_change() {
    let config = MemoryConfig {
        hugepages: HugePages::Transparent,
        ..Default::default()
    };
    for shared in [false, true] {
        let config = MemoryConfig {
            shared,
            ..config.clone()
        };
        match create(8 << 20, &config) {
            Ok(memory) => {
                let host = memory.get_host_address(GuestAddress(0)).unwrap() as usize;
                assert_eq!(host % (2 << 20), 0);
                write(&memory, 2 << 20, &[1]).unwrap();
                let field = if shared { "ShmemPmdMapped" } else { "AnonHugePages" };
                assert_eq!(of_mapping(&memory, 0, field), 2 << 20);
            }
            Err(error @ MemoryError::NoTransparentPages { .. }) => {
                assert!(error.to_string().contains("transparent_hugepage"), "{error}");
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn pages_that_the_host_has_not_set_aside_are_refused_with_what_to_set() {
    for (hugepages, size) in [(HugePages::Of2MiB, 2u64 << 20), (HugePages::Of1GiB, 1 << 30)] {
        let config = MemoryConfig {
            hugepages,
            ..Default::default()
        };
        // No host of ours has a terabyte of them.
        let error = create(1 << 40, &config).unwrap_err().to_string();
        assert!(
            error.contains(&format!("needs {} huge pages", (1 << 40) / size)),
            "{error}"
        );
        assert!(error.contains("/nr_hugepages"), "{error}");
    }
}

#[test]
fn memory_comes_from_the_hosts_nodes_or_the_missing_one_is_named() {
    let node = |host_nodes: &str| MemoryConfig {
        nodes: vec![NodeConfig {
            vcpus: "0".parse().unwrap(),
            memory_bytes: 4 << 20,
            host_nodes: Some(host_nodes.parse().unwrap()),
        }],
        ..Default::default()
    };
    if std::fs::exists("/sys/devices/system/node/node0").unwrap() {
        let memory = create(4 << 20, &node("0")).unwrap();
        write(&memory, 0, &[1]).unwrap();
        let host = memory.get_host_address(GuestAddress(0)).unwrap() as usize;
        let maps = std::fs::read_to_string("/proc/self/numa_maps").unwrap();
        let line = maps
            .lines()
            .find(|line| line.starts_with(&format!("{host:x}")))
            .unwrap();
        assert!(line.contains("bind") && line.contains(":0 "), "{line}");
    }
    let error = create(4 << 20, &node("0,1022")).unwrap_err().to_string();
    assert!(error.contains("memory.nodes[0].host_nodes is 0,1022"), "{error}");
}

#[test]
fn the_region_to_plug_is_above_the_rest_and_in_the_same_file() {
    let config: MemoryConfig =
        serde_json::from_value(serde_json::json!({"shared": true, "hotplug": {"max_bytes": 1u64 << 30}}))
            .unwrap();
    let memory = create(4 << 20, &config).unwrap();
    let places: Vec<_> = memory
        .iter()
        .map(|region| {
            (
                region.start_addr().0,
                region.len(),
                region.file_offset().unwrap().start(),
            )
        })
        .collect();
    assert_eq!(places, [(0, 4 << 20, 0), (4 << 30, 1 << 30, 4 << 20)]);
}
