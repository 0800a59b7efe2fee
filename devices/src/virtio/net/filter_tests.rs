use super::*;
use proptest::prelude::*;

const MINE: Address = [0x10, 0x66, 0x6a, 1, 2, 3];
const ANOTHER: Address = [0x10, 0x66, 0x6a, 1, 2, 4];
const GROUP: Address = [0x33, 0x33, 0, 0, 0, 1];

fn filter() -> Filter {
    Filter {
        promiscuous: false,
        ..Filter::new(MINE)
    }
}

#[test]
fn a_new_card_sees_everything() {
    for address in [MINE, ANOTHER, GROUP, BROADCAST] {
        assert!(Filter::new(MINE).accepts(address));
    }
}

#[test]
fn a_card_sees_its_address_its_tables_and_broadcasts() {
    let mut filter = filter();
    let seen = |filter: &Filter| [MINE, ANOTHER, GROUP, BROADCAST].map(|address| filter.accepts(address));
    assert_eq!(seen(&filter), [true, false, false, true]);
    filter.unicast.addresses.push(ANOTHER);
    assert_eq!(seen(&filter), [true, true, false, true]);
    filter.multicast.addresses.push(GROUP);
    assert_eq!(seen(&filter), [true, true, true, true]);
}

#[test]
fn modes_widen_and_narrow_what_is_seen() {
    for (mode, expected) in [
        (Mode::Promiscuous, [true, true, true, true]),
        (Mode::AllMulticast, [true, false, true, true]),
        (Mode::AllUnicast, [true, true, false, true]),
        (Mode::NoMulticast, [true, false, false, true]),
        (Mode::NoUnicast, [false, false, false, true]),
        (Mode::NoBroadcast, [true, false, false, false]),
    ] {
        let mut filter = filter();
        filter.set(mode, true);
        let seen = [MINE, ANOTHER, GROUP, BROADCAST].map(|address| filter.accepts(address));
        assert_eq!(seen, expected, "{mode:?}");
        filter.set(mode, false);
        assert_eq!(filter, self::filter());
    }
}

#[test]
fn tables_that_overflow_let_everything_of_their_kind_pass() {
    let mut filter = filter();
    filter.unicast.overflowed = true;
    assert!(filter.accepts(ANOTHER) && !filter.accepts(GROUP));
    filter.multicast.overflowed = true;
    assert!(filter.accepts(GROUP));
}

proptest! {
    #[test]
    fn a_saved_filter_is_the_same_again(unicast: Vec<Address>, multicast: Vec<Address>, modes: [bool; 6], probe: Address) {
        let mut filter = Filter::new(MINE);
        filter.unicast.addresses = unicast;
        filter.multicast.addresses = multicast;
        let all = [
            Mode::Promiscuous, Mode::AllMulticast, Mode::AllUnicast, Mode::NoMulticast, Mode::NoUnicast, Mode::NoBroadcast,
        ];
        all.into_iter().zip(modes).for_each(|(mode, on)| filter.set(mode, on));
        let again: Filter = serde_json::from_value(serde_json::to_value(&filter).unwrap()).unwrap();
        prop_assert_eq!(&again, &filter);
        prop_assert_eq!(again.accepts(probe), filter.accepts(probe));
    }
}
