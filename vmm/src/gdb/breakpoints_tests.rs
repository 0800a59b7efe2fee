use super::*;
use proptest::prelude::*;
use vm_memory::GuestAddress;

fn ram() -> Ram {
    Ram::from_ranges(&[(GuestAddress(0), 0x4000)]).unwrap()
}

fn byte(ram: &Ram, address: u64) -> u8 {
    ram.read_obj(GuestAddress(address)).unwrap()
}

#[test]
fn an_instruction_comes_back_unless_the_guest_has_replaced_it() {
    let (ram, mut planted) = (ram(), Planted::default());
    ram.write_obj(0x55u8, GuestAddress(0x1000)).unwrap();
    // Two addresses of one byte.
    assert!(planted.add(&ram, 0xffff_0000_0000_1000, GuestAddress(0x1000)));
    assert!(planted.add(&ram, 0x1000, GuestAddress(0x1000)));
    assert_eq!(byte(&ram, 0x1000), INT3);
    assert!(planted.remove(&ram, 0x1000) && !planted.remove(&ram, 0x1000));
    assert_eq!(byte(&ram, 0x1000), INT3, "the other one is still there");
    planted.clear(&ram);
    assert_eq!(byte(&ram, 0x1000), 0x55);
    assert!(planted.add(&ram, 0x1000, GuestAddress(0x1000)));
    ram.write_obj(0x66u8, GuestAddress(0x1000)).unwrap();
    planted.clear(&ram);
    assert_eq!(byte(&ram, 0x1000), 0x66);
    assert!(
        !planted.add(&ram, 0x9000, GuestAddress(0x9000)),
        "there is no memory"
    );
}

#[test]
fn places_are_set_in_the_debug_registers() {
    let mut compared = Compared::default();
    assert!(compared.add(0x1000, 1, Kind::Execute));
    assert!(compared.add(0x2004, 4, Kind::Watch(WatchKind::Write)));
    // 6 bytes at an address that is aligned to 2: pieces of 2 and 4.
    assert!(compared.add(0x3002, 6, Kind::Watch(WatchKind::ReadWrite)));
    let registers = compared.registers();
    assert_eq!(&registers[..4], &[0x1000, 0x2004, 0x3002, 0x3004]);
    assert_eq!(registers[7], 0x700 | 0b1010_1010 | 0b1111_0111_1101_0000 << 16);
    assert_eq!(compared.hit(8), Some((Kind::Watch(WatchKind::ReadWrite), 0x3004)));
    assert_eq!(compared.hit(0x4000), None, "a single step");
    assert!(!compared.add(0x5000, 1, Kind::Execute), "all are in use");
    assert!(compared.remove(0x3002, 6, Kind::Watch(WatchKind::ReadWrite)));
    assert!(compared.add(0x5000, 1, Kind::Execute));
}

proptest! {
    #[test]
    fn pieces_cover_what_was_asked_for_or_nothing(address: u64, len in 0u64..40) {
        let mut compared = Compared::default();
        let kind = Kind::Watch(WatchKind::Write);
        if compared.add(address, len, kind) {
            let mut next = address;
            for place in compared.0.iter().flatten() {
                prop_assert_eq!((place.address, place.address % place.len), (next, 0));
                next += place.len;
            }
            prop_assert_eq!(next, address + len);
        } else {
            prop_assert!(compared.is_empty());
        }
    }
}
