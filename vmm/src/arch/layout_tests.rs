//! Rules that every layout of guest memory keeps.

use super::*;
use proptest::prelude::*;

#[test]
fn small_memory_is_one_range_and_large_memory_leaves_the_hole_free() {
    assert_eq!(ram_ranges(128 << 20), [(0, 128 << 20)]);
    assert_eq!(ram_ranges(HOLE_START), [(0, HOLE_START)]);
    assert_eq!(ram_ranges(4 << 30), [(0, HOLE_START), (FOUR_GIB, 1 << 30)]);
    assert_eq!(pci_window_64(128 << 20, 0).0, FOUR_GIB);
    assert_eq!(pci_window_64(4 << 30, 0).0, 5 << 30);
}

proptest! {
    #[test]
    fn maps_cover_all_memory_but_the_reserved_part_without_overlaps(pages in 512u64..=(1 << 28)) {
        let memory = pages * PAGE;
        let total: u64 = ram_ranges(memory).iter().map(|(_, len)| len).sum();
        prop_assert_eq!(total, memory);
        let map = memory_map(memory);
        for pair in map.windows(2) {
            prop_assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{:x?}", map);
        }
        let usable: u64 = map.iter().filter(|range| range.2 == RangeKind::Ram).map(|range| range.1).sum();
        prop_assert_eq!(usable, memory - (HIGH_RAM - LOW_RAM_END));
    }

    #[test]
    fn what_comes_above_ram_does_not_overlap(pages in 512u64..=(1 << 28), plugged in 0u64..=(1 << 19)) {
        let (memory, plugged) = (pages * PAGE, plugged << 21);
        prop_assume!(memory + plugged <= 1 << 40);
        let end = ram_ranges(memory).iter().map(|(start, len)| start + len).max().unwrap_or(0);
        let window = pci_window_64(memory, plugged);
        match hotplug_region(memory, plugged) {
            Some((start, len)) => {
                prop_assert!(end <= start && len == plugged && start + len <= window.0);
                prop_assert_eq!(start % (2 << 30), 0);
            }
            None => prop_assert!(plugged == 0 && end <= window.0),
        }
        prop_assert_eq!(pmem_start(memory, plugged), window.0 + window.1);
        prop_assert!(window.0 + window.1 <= 1 << 41);
    }

    #[test]
    fn nodes_take_all_ram_in_order(sizes in proptest::collection::vec(0u64..(2 << 10), 1..6)) {
        let sizes: Vec<u64> = sizes.iter().map(|size| size << 21).collect();
        let memory = sizes.iter().sum();
        let ranges = node_ranges(memory, &sizes);
        for (node, size) in sizes.iter().enumerate() {
            let its: u64 = ranges.iter().filter(|range| range.0 == node).map(|range| range.2).sum();
            prop_assert_eq!(its, *size);
        }
        for pair in ranges.windows(2) {
            prop_assert!(pair[0].0 <= pair[1].0 && pair[0].1 + pair[0].2 <= pair[1].1);
        }
        let total: u64 = ranges.iter().map(|range| range.2).sum();
        prop_assert_eq!(total, memory);
    }
}
