use super::*;
use proptest::prelude::*;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use vm_memory::{Bytes, FileOffset};

/// Two regions with a hole between them, and one more right after the second.
const REGIONS: [(u64, usize); 3] = [(0, 0x4000), (0x8000, 0x2000), (0xa000, 0x1000)];

fn filled(ram: Ram) -> Ram {
    for (start, len) in REGIONS {
        ram.write_slice(&vec![7; len], GuestAddress(start)).unwrap();
    }
    ram
}

fn private() -> Ram {
    filled(Ram::from_ranges(&REGIONS.map(|(start, len)| (GuestAddress(start), len))).unwrap())
}

fn byte(ram: &Ram, address: u64) -> u8 {
    ram.read_obj(GuestAddress(address)).unwrap()
}

#[test]
fn whole_pages_are_discarded_and_their_neighbours_stay() {
    let ram = private();
    assert_eq!(discard(&ram, 0x800..0x3800).unwrap(), 0x2000);
    assert_eq!(
        [0xfff, 0x1000, 0x2fff, 0x3000].map(|at| byte(&ram, at)),
        [7, 0, 0, 7]
    );
    assert_eq!(discard(&ram, 0x9000..0xb000).unwrap(), 0x2000, "across regions");
    assert_eq!([0x8fff, 0x9000, 0xafff].map(|at| byte(&ram, at)), [7, 0, 0]);
}

#[test]
fn shared_memory_gets_a_hole_in_its_file() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(0x7000).unwrap();
    let place = |file: &File, start| Some(FileOffset::new(file.try_clone().unwrap(), start));
    let [first, second, third] = REGIONS.map(|(start, len)| (GuestAddress(start), len));
    let ranges = [
        (first.0, first.1, place(&file, 0)),
        (second.0, second.1, place(&file, 0x4000)),
        (third.0, third.1, place(&file, 0x6000)),
    ];
    let ram = filled(Ram::from_ranges_with_files(ranges).unwrap());
    let before = file.metadata().unwrap().blocks();
    assert_eq!(discard(&ram, 0x8000..0xb000).unwrap(), 0x3000);
    assert_eq!([0x3fff, 0x8000, 0xafff].map(|at| byte(&ram, at)), [7, 0, 0]);
    assert_eq!(file.metadata().unwrap().blocks(), before - 0x3000 / 512);
    assert_eq!(file.metadata().unwrap().len(), 0x7000);
}

#[test]
fn what_is_not_all_memory_stays_as_it_is() {
    let ram = private();
    for range in [
        0x3000..0x5000,
        0x7000..0x9000,
        0xa000..u64::MAX,
        u64::MAX - 8192..u64::MAX,
    ] {
        assert!(matches!(discard(&ram, range), Err(DiscardError::Outside { .. })));
    }
    assert_eq!([0x3000, 0x8000, 0xa000].map(|at| byte(&ram, at)), [7, 7, 7]);
}

proptest! {
    #[test]
    fn any_range_is_discarded_or_refused(start in 0u64..0xd000, len in 0u64..0xd000) {
        let ram = private();
        let (first, end) = (start.next_multiple_of(PAGE), (start + len) / PAGE * PAGE);
        let inside = |at: u64| REGIONS.iter().any(|(start, len)| (*start..start + *len as u64).contains(&at));
        let whole = (first..end).step_by(PAGE as usize).all(inside);
        let done = discard(&ram, start..start + len);
        prop_assert_eq!(done.is_ok(), whole);
        for (start, len) in REGIONS {
            for at in (start..start + len as u64).step_by(PAGE as usize) {
                prop_assert_eq!(byte(&ram, at) == 0, whole && (first..end).contains(&at));
            }
        }
    }
}
