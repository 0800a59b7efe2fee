use super::*;
use crate::testing::TestMsi;
use proptest::prelude::*;

fn msix() -> (Arc<Msix>, TestMsi) {
    let controller = TestMsi::default();
    (Msix::new(3, &controller).unwrap(), controller)
}

fn program(msix: &Msix, vector: u64, address: u64, data: u32, control: u32) {
    msix.write_table(vector * ENTRY_SIZE, &address.to_le_bytes());
    msix.write_table(
        vector * ENTRY_SIZE + 8,
        &[data.to_le_bytes(), control.to_le_bytes()].concat(),
    );
}

#[test]
fn a_programmed_vector_reaches_the_guest() {
    let (msix, controller) = msix();
    program(&msix, 1, 0xfee0_1000, 0x41, 0);
    let vector = controller.vector(1).unwrap();
    msix.trigger(1);
    assert_eq!((vector.message(), vector.interrupt().count()), (None, 0));
    msix.set_control(ENABLE);
    assert_eq!(vector.message(), Some((0xfee0_1000, 0x41, false)));
    msix.trigger(1);
    msix.trigger(77);
    assert_eq!(vector.interrupt().count(), 1);
    let mut entry = [0; 16];
    msix.read_table(16, &mut entry[..8]);
    msix.read_table(24, &mut entry[8..]);
    assert_eq!(
        entry,
        [&0xfee0_1000u64.to_le_bytes()[..], &[0x41, 0, 0, 0, 0, 0, 0, 0]].concat()[..]
    );
}

#[test]
fn masked_interrupts_wait_and_are_sent_once() {
    let (msix, controller) = msix();
    msix.set_control(ENABLE);
    program(&msix, 2, 0xfee0_0000, 0x30, 0);
    let vector = controller.vector(2).unwrap();
    for masked in [
        |msix: &Msix| program(msix, 2, 0xfee0_0000, 0x30, 1),
        |msix: &Msix| msix.set_control(ENABLE | FUNCTION_MASK),
    ] {
        let before = vector.interrupt().count();
        masked(&msix);
        assert_eq!(vector.message(), Some((0xfee0_0000, 0x30, true)));
        msix.trigger(2);
        msix.trigger(2);
        let mut pending = [0xff; 8];
        msix.read_pending(0, &mut pending);
        assert_eq!(
            (pending, vector.interrupt().count()),
            ([4, 0, 0, 0, 0, 0, 0, 0], before)
        );
        msix.set_control(ENABLE);
        program(&msix, 2, 0xfee0_0000, 0x30, 0);
        msix.read_pending(0, &mut pending);
        assert_eq!((pending[0], vector.interrupt().count()), (0, before + 1));
    }
}

#[test]
fn the_capability_tells_where_the_table_is() {
    let (msix, _) = msix();
    let mut config = Config::new(crate::pci::config::Identity {
        vendor: 0,
        device: 0,
        revision: 0,
        class: [0; 3],
        subsystem_vendor: 0,
        subsystem: 0,
    });
    let offset = msix.add_capability(&mut config, 1, 0x4000, 0x5000).unwrap();
    let mut bytes = [0; 12];
    config.read(offset, &mut bytes);
    assert_eq!(bytes, [0x11, 0, 2, 0, 1, 0x40, 0, 0, 1, 0x50, 0, 0]);
    config.write(offset + 2, &[0xff, 0xff]);
    config.read(offset, &mut bytes);
    assert_eq!(bytes[2..4], [2, 0xc0]);
}

#[test]
fn signals_past_a_masked_vector_are_pending_and_those_past_an_unmasked_one_are_not_touched() {
    let (msix, _) = msix();
    msix.set_control(ENABLE);
    let pending = |msix: &Msix| {
        let mut bits = [0; 8];
        msix.read_pending(0, &mut bits);
        bits[0]
    };
    let event = msix.eventfd(1).unwrap();
    event.write(1).unwrap();
    assert_eq!(pending(&msix), 0b10);
    assert!(msix.save().pending[1]);
    program(&msix, 1, 0xfee0_0000, 0x42, 0);
    assert_eq!(pending(&msix), 0);
    event.write(1).unwrap();
    assert_eq!(pending(&msix), 0);
    assert_eq!(event.read().unwrap(), 1, "the machine's to read");
    assert!(msix.eventfd(99).is_none());
}

#[test]
fn a_saved_table_sends_what_was_pending_once_it_is_unmasked() {
    let (msix, _) = msix();
    msix.set_control(ENABLE);
    program(&msix, 0, 0xfee0_0000, 0x30, 1);
    msix.trigger(0);
    let json = serde_json::to_string(&msix.save()).unwrap();
    let state: MsixState = serde_json::from_str(&json).unwrap();
    let controller = TestMsi::default();
    let again = Msix::new(3, &controller).unwrap();
    assert!(again.restore(&state, ENABLE));
    program(&again, 0, 0xfee0_0000, 0x30, 0);
    assert_eq!(controller.vector(0).unwrap().interrupt().count(), 1);
    assert!(!Msix::new(2, &controller).unwrap().restore(&state, ENABLE));
}

proptest! {
    #[test]
    fn any_access_is_survived(
        accesses in proptest::collection::vec((any::<u64>(), proptest::collection::vec(any::<u8>(), 0..9)), 0..30),
        control: u16,
    ) {
        let (msix, _) = msix();
        msix.set_control(control);
        for (offset, mut data) in accesses {
            // A table is in a BAR of some pages.
            let offset = offset % 0x1000;
            msix.write_table(offset, &data);
            msix.read_table(offset, &mut data);
            msix.read_pending(offset, &mut data);
            msix.trigger(offset as u16);
        }
    }
}
