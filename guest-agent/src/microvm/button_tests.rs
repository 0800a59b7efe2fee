use super::*;

fn event(kind: u16, code: u16, value: i32) -> [u8; EVENT] {
    let mut event = [0xaa; EVENT];
    event[16..18].copy_from_slice(&kind.to_ne_bytes());
    event[18..20].copy_from_slice(&code.to_ne_bytes());
    event[20..].copy_from_slice(&value.to_ne_bytes());
    event
}

#[test]
fn only_a_press_of_the_power_key_counts() {
    assert!(is_press(&event(EV_KEY, KEY_POWER, 1)));
    assert!(!is_press(&event(EV_KEY, KEY_POWER, 0)));
    assert!(!is_press(&event(EV_KEY, 30, 1)));
    assert!(!is_press(&event(0, 0, 0)));
}
