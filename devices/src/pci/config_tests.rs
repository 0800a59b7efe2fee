use super::*;
use proptest::prelude::*;

const IDENTITY: Identity = Identity {
    vendor: 0x1af4,
    device: 0x1042,
    revision: 1,
    class: [0x01, 0x80, 0x00],
    subsystem_vendor: 0x1af4,
    subsystem: 0x42,
};

fn config() -> Config {
    let mut config = Config::new(IDENTITY);
    config
        .add_bar(Bar {
            index: 0,
            size: 0x8000,
        })
        .unwrap();
    config
}

fn read_u32(config: &Config, offset: u16) -> u32 {
    let mut bytes = [0; 4];
    config.read(offset, &mut bytes);
    u32::from_le_bytes(bytes)
}

#[test]
fn identity_is_where_the_guest_looks() {
    let config = config();
    assert_eq!(read_u32(&config, 0), 0x1042_1af4);
    assert_eq!(read_u32(&config, 8), 0x0180_0001);
    assert_eq!(read_u32(&config, 0x2c), 0x0042_1af4);
    assert_eq!(read_u32(&config, 0x100), 0);
    let mut tail = [0xff; 4];
    config.read(0xffff, &mut tail);
    assert_eq!(tail, [0; 4]);
}

#[test]
fn the_guest_finds_the_size_of_a_bar_and_moves_it() {
    let mut config = config();
    config.place_bar(0, 0x8_c000_8000);
    assert_eq!(
        (read_u32(&config, 0x10), read_u32(&config, 0x14)),
        (0xc000_8004, 8)
    );
    config.write(0x10, &[0xff; 4]);
    config.write(0x14, &[0xff; 4]);
    assert_eq!(
        (read_u32(&config, 0x10), read_u32(&config, 0x14)),
        (0xffff_8004, 0xffff_ffff)
    );
    config.write(0x10, &0xd000_0000u32.to_le_bytes());
    config.write(0x14, &[0; 4]);
    assert_eq!(config.bar_address(0), Some(0xd000_0000));
    assert_eq!(config.decoded_bar(0), None);
    config.write(4, &[0xff, 0xff]);
    assert_eq!(config.decoded_bar(0), Some(0xd000_0000));
    // Of the command register only what exists can be set; there is no second BAR.
    assert_eq!(read_u32(&config, 4) & 0xffff, 0x0407);
    config.write(0x18, &[0xff; 4]);
    assert_eq!(read_u32(&config, 0x18), 0);
}

#[test]
fn capabilities_form_a_list_and_write_through_their_mask() {
    let mut config = config();
    let first = config.add_capability(0x09, &[1, 2, 3], &[0, 0xf0]).unwrap();
    let second = config.add_capability(0x11, &[4; 10], &[]).unwrap();
    assert_eq!(read_u32(&config, 0x34) & 0xff, u32::from(first));
    assert_eq!(read_u32(&config, first) & 0xffff, 0x09 | u32::from(second) << 8);
    assert_eq!(read_u32(&config, second) & 0xffff, 0x11);
    assert_ne!(read_u32(&config, 4) & 1 << 20, 0);
    config.write(first + 2, &[0xff; 3]);
    assert_eq!(read_u32(&config, first) >> 16, 0xf201);
    assert_eq!(
        config.add_capability(9, &[0; 200], &[]),
        Err(ConfigError::CapabilityTooLarge(200))
    );
}

#[test]
fn bars_that_cannot_be_are_refused() {
    let mut config = config();
    for (index, size) in [
        (0, 0x1000),
        (1, 0x1000),
        (5, 0x1000),
        (6, 0x1000),
        (2, 0),
        (2, 8),
        (2, 0x1001),
    ] {
        let bar = Bar { index, size };
        assert_eq!(config.add_bar(bar), Err(ConfigError::Bar(bar)));
    }
    config
        .add_bar(Bar {
            index: 4,
            size: 1 << 40,
        })
        .unwrap();
}

proptest! {
    /// Whatever the guest writes, what a device is does not change and BARs stay aligned.
    #[test]
    fn writes_change_only_what_they_may(
        writes in proptest::collection::vec((any::<u16>(), proptest::collection::vec(any::<u8>(), 0..9)), 0..50),
    ) {
        let mut config = config();
        let fresh = config.clone();
        for (offset, data) in writes {
            config.write(offset % 300, &data);
            let mut bytes = [0; 8];
            config.read(offset, &mut bytes);
        }
        prop_assert_eq!(read_u32(&config, 0), read_u32(&fresh, 0));
        prop_assert_eq!(read_u32(&config, 8), read_u32(&fresh, 8));
        prop_assert_eq!(read_u32(&config, 0x10) & 0x7fff, 4);
        prop_assert!(config.bar_address(0).unwrap().is_multiple_of(0x8000));
        let saved = config.save();
        let mut again = fresh.clone();
        prop_assert!(again.restore(&saved));
        prop_assert_eq!(again.save(), saved);
    }
}

#[test]
fn the_state_of_another_device_is_refused() {
    let mut other = config();
    other.add_capability(9, &[1], &[]).unwrap();
    assert!(!config().restore(&other.save()));
    assert!(!config().restore(&[]));
}
