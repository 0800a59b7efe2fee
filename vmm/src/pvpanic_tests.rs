//! What a kernel's driver does with the device.

use super::*;

#[test]
fn a_panic_ends_the_vm_and_other_events_do_not() {
    let exit = ExitSignal::new().unwrap();
    let mut device = PvPanic::new(exit.clone()).unwrap();
    let mut supported = [0xff];
    device.read_bar(0, 0, &mut supported);
    assert_eq!(supported, [PANICKED]);
    for (offset, data) in [(0, &[2][..]), (1, &[1]), (0, &[])] {
        device.write_bar(0, offset, data);
        assert!(!exit.is_raised(), "{data:?} at {offset}");
    }
    device.write_bar(0, 0, &[1]);
    assert_eq!(exit.report().unwrap().reason, ExitReason::Panic);
}
