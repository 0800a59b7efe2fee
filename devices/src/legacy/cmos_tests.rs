use super::*;
use proptest::prelude::*;

fn read(cmos: &mut Cmos, index: u8) -> u8 {
    cmos.write(0, &[index]);
    let mut data = [0];
    cmos.read(1, &mut data);
    data[0]
}

#[test]
fn the_time_is_told_in_binary() {
    // 29 February 2024 was a Thursday.
    let mut cmos = Cmos::with_clock(0, 0, Box::new(|| 1_709_210_096));
    let registers = [0x32, 0x09, 0x08, 0x07, 0x06, 0x04, 0x02, 0x00].map(|index| read(&mut cmos, index));
    assert_eq!(registers, [20, 24, 2, 29, 5, 12, 34, 56]);
    assert_eq!(read(&mut cmos, 0x0b), STATUS_B);
    assert_eq!(read(&mut cmos, 0x8d), STATUS_D);
}

#[test]
fn well_known_days_are_right() {
    for (seconds, year, month, day, weekday) in [
        (0, 1970, 1, 1, 5),
        (951_868_800, 2000, 3, 1, 4),
        (4_107_542_400, 2100, 3, 1, 2),
    ] {
        let time = Time::from_seconds(seconds);
        assert_eq!(
            (time.year, time.month, time.day, time.weekday),
            (year, month, day, weekday)
        );
    }
}

#[test]
fn memory_sizes_are_told_and_other_cells_hold_what_is_written() {
    let mut cmos = Cmos::new(128 << 20, 5 << 30);
    assert_eq!(
        [read(&mut cmos, 0x34), read(&mut cmos, 0x35)],
        1792u16.to_le_bytes()
    );
    assert_eq!(
        [
            read(&mut cmos, 0x5b),
            read(&mut cmos, 0x5c),
            read(&mut cmos, 0x5d)
        ],
        [0, 0x40, 1]
    );
    cmos.write(0, &[0x60]);
    cmos.write(1, &[42]);
    assert_eq!(read(&mut cmos, 0x60), 42);
}

proptest! {
    #[test]
    fn every_second_is_followed_by_the_next(seconds in 0..253_402_300_799u64) {
        let (now, next) = (Time::from_seconds(seconds), Time::from_seconds(seconds + 1));
        prop_assert!((1..=12).contains(&now.month) && (1..=31).contains(&now.day) && now.second < 60);
        let key = |time: &Time| (time.year, time.month, time.day, time.hour, time.minute, time.second);
        prop_assert!(key(&now) < key(&next));
    }

    #[test]
    fn any_access_is_survived(offset in 0..4u64, data in proptest::collection::vec(any::<u8>(), 0..9)) {
        let mut cmos = Cmos::new(u64::MAX, u64::MAX);
        cmos.write(offset, &data);
        cmos.read(offset, &mut data.clone());
    }
}
