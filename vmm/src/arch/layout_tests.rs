//! Rules that every layout of guest memory keeps.

use super::*;
use proptest::prelude::*;

#[test]
fn small_memory_is_one_range_and_large_memory_leaves_the_hole_free() {
    assert_eq!(ram_ranges(128 << 20), [(0, 128 << 20)]);
    assert_eq!(ram_ranges(HOLE_START), [(0, HOLE_START)]);
    assert_eq!(ram_ranges(4 << 30), [(0, HOLE_START), (FOUR_GIB, 1 << 30)]);
    assert_eq!(pci_window_64(128 << 20).0, FOUR_GIB);
    assert_eq!(pci_window_64(4 << 30).0, 5 << 30);
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
        let window = pci_window_64(memory);
        prop_assert!(ram_ranges(memory).iter().all(|(start, len)| start + len <= window.0));
        prop_assert!(window.0 + window.1 <= 1 << 41);
    }
}
