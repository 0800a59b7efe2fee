use super::*;

#[test]
fn the_kernel_has_its_code_where_it_is_entered() {
    let file = kernel();
    assert_eq!(file.len(), 0x1000 + (16 << 20));
    let entry = u64::from_le_bytes(file[24..32].try_into().unwrap());
    let pvh_entry = u64::from_le_bytes(file[0x210..0x218].try_into().unwrap());
    assert_eq!((entry, pvh_entry), (LOAD_ADDRESS, LOAD_ADDRESS));
    let segment = u64::from_le_bytes(file[72..80].try_into().unwrap()) as usize;
    assert_eq!(file[segment..segment + CODE.len()], CODE);
}

#[test]
fn no_page_of_the_kernel_is_empty() {
    assert!(
        kernel()[0x1000..]
            .chunks(4096)
            .all(|page| page.iter().any(|byte| *byte != 0))
    );
}

#[test]
fn the_firmware_starts_at_the_reset_vector() {
    let file = firmware();
    assert_eq!(file.len() % 65536, 0);
    assert_eq!(file[file.len() - 16], 0xb0);
}
