use super::*;
use gdbstub::arch::Registers as _;
use proptest::prelude::*;

#[test]
fn sizes_are_those_of_the_description() {
    let text = X86_64::target_description_xml().unwrap();
    let sizes = text
        .split("bitsize=\"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap());
    let sizes: Vec<usize> = sizes.map(|bits| bits.parse::<usize>().unwrap() / 8).collect();
    assert_eq!(sizes, (0..COUNT).map(bytes).collect::<Vec<_>>());
    assert!(RegisterId::from_raw_id(COUNT).is_none());
}

#[test]
fn a_fresh_float_unit_is_empty() {
    let registers = Registers::default();
    assert_eq!(registers.get(FLOAT_CONTROL + 2), 0xffff);
    let mut one = Registers::default();
    one.float.ftwx = 0x80;
    one.float.fsw = 7 << 11;
    one.float.fpr[0][7..10].copy_from_slice(&[0x80, 0xff, 0x3f]);
    assert_eq!(one.get(FLOAT_CONTROL + 2), 0x3fff, "1.0 is valid");
}

proptest! {
    #[test]
    fn what_is_written_is_read(id in 0..COUNT, value: u128) {
        let mut registers = Registers::default();
        let mask = u128::MAX >> (128 - 8 * bytes(id));
        registers.set(id, value);
        let kept = match id {
            SELECTORS..STACK | FLOAT_CONTROL..XMM => return Ok(()),
            _ => value & mask,
        };
        prop_assert_eq!(registers.get(id), kept);
    }

    #[test]
    fn any_bytes_can_be_taken_and_given_back(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
        let mut registers = Registers::default();
        if registers.gdb_deserialize(&bytes).is_ok() {
            let mut given = Vec::new();
            registers.gdb_serialize(|byte| given.extend(byte));
            prop_assert!(given.len() <= bytes.len());
        }
    }
}
