//! What guests write to end themselves.

use super::*;

fn reason(offset: u64, data: &[u8]) -> Option<ExitReason> {
    let exit = ExitSignal::new().unwrap();
    PowerRegisters::new(exit.clone()).write(offset, data);
    exit.report().map(|report| report.reason)
}

#[test]
fn only_the_announced_values_end_the_vm() {
    assert_eq!(reason(0, &[0x34]), Some(ExitReason::Poweroff));
    assert_eq!(reason(2, &[1]), Some(ExitReason::Reset));
    for (offset, data) in [
        (0, &[0x14][..]),
        (0, &[0x30]),
        (0, &[0x34, 0]),
        (1, &[0x34]),
        (2, &[0]),
        (2, &[]),
    ] {
        assert_eq!(reason(offset, data), None, "{data:?} at {offset}");
    }
}

#[test]
fn the_first_reason_stays() {
    let exit = ExitSignal::new().unwrap();
    let mut registers = PowerRegisters::new(exit.clone());
    registers.write(2, &[1]);
    registers.write(0, &[0x34]);
    assert_eq!(exit.report().unwrap().reason, ExitReason::Reset);
    assert!(exit.is_raised());
}
