//! The tables as a guest reads them, and as `dmidecode` does where it is installed.

use super::*;
use proptest::prelude::*;
use std::process::Command;

/// Structures after the entry point: type, formatted area after the header, strings.
fn walk(bytes: &[u8]) -> Vec<(u8, Vec<u8>, Vec<String>)> {
    assert_eq!(&bytes[..5], b"_SM3_");
    assert_eq!(
        bytes[..24].iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)),
        0
    );
    let address = u64::from_le_bytes(bytes[16..24].try_into().unwrap());
    let mut rest = &bytes[(address - layout::SMBIOS) as usize..];
    assert_eq!(
        u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize,
        rest.len()
    );
    let mut found = Vec::new();
    while let [kind, len, ..] = *rest {
        let (body, after) = rest.split_at(usize::from(len));
        assert_eq!(
            usize::from(u16::from_le_bytes([body[2], body[3]])),
            found.len(),
            "handles count up"
        );
        let end = after.windows(2).position(|pair| pair == [0, 0]).unwrap();
        let text = String::from_utf8(after[..end].to_vec()).unwrap();
        let strings = text
            .split('\0')
            .filter(|text| !text.is_empty())
            .map(str::to_owned);
        found.push((kind, body[4..].to_vec(), strings.collect()));
        rest = &after[end + 2..];
    }
    found
}

fn example() -> SmbiosConfig {
    SmbiosConfig {
        manufacturer: Some("Acme".into()),
        serial: Some("S-1".into()),
        uuid: Some("00112233-4455-6677-8899-aabbccddeeff".parse().unwrap()),
        family: Some("Anvils".into()),
        oem_strings: vec!["first=1".into(), "second=2".into()],
        ..SmbiosConfig::default()
    }
}

#[test]
fn strings_and_uuid_are_where_the_specification_has_them() {
    let found = walk(&tables(&example()));
    let kinds: Vec<_> = found.iter().map(|(kind, ..)| *kind).collect();
    assert_eq!(kinds, [0, 1, 3, 11, 127]);
    let (_, body, strings) = &found[1];
    assert_eq!(strings, &["Acme", "microVM", "S-1", "Anvils"]);
    assert_eq!(body[..4], [1, 2, 0, 3], "there is no version");
    assert_eq!(
        body[4..20],
        [
            0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff
        ],
        "the first three fields are little-endian (§7.2.1)"
    );
    assert_eq!(body[20..], [6, 0, 4]);
    assert_eq!(found[3].1, [2]);
    assert_eq!(found[3].2, ["first=1", "second=2"]);
    let found = walk(&tables(&SmbiosConfig::default()));
    assert!(found.iter().all(|(kind, ..)| *kind != 11));
    assert_eq!(found[1].2, ["Virga", "microVM"]);
}

#[test]
fn dmidecode_agrees() {
    if Command::new("dmidecode").arg("--version").output().is_err() {
        eprintln!("skipped: dmidecode is not installed");
        return;
    }
    // In a dump the structures' address counts from the start of the file.
    let mut dump = tables(&example());
    dump[16..24].copy_from_slice(&(ENTRY_POINT_BYTES as u64).to_le_bytes());
    dump[5] = 0;
    dump[5] = 0u8.wrapping_sub(dump[..24].iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dump");
    std::fs::write(&path, dump).unwrap();
    let output = Command::new("dmidecode")
        .arg("--from-dump")
        .arg(&path)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for expected in [
        "Manufacturer: Acme",
        "Product Name: microVM",
        "Serial Number: S-1",
        "UUID: 00112233-4455-6677-8899-aabbccddeeff",
        "Wake-up Type: Power Switch",
        "Family: Anvils",
        "System is a virtual machine",
        "String 2: second=2",
        "Type: Other",
        "End Of Table",
    ] {
        assert!(text.contains(expected), "{expected} is not in {text}");
    }
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned() + &text;
    for bad in ["broken", "Wrong", "Invalid", "OUT OF SPEC", "BAD INDEX"] {
        assert!(!complaints.contains(bad), "{complaints}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_strings_that_the_configuration_takes_are_read_back(
        manufacturer in proptest::option::of("[^\\p{Cc}]{1,40}"),
        sku in proptest::option::of("[^\\p{Cc}]{1,40}"),
        oem_strings in proptest::collection::vec("[ -~]{1,40}", 0..20),
    ) {
        let config = SmbiosConfig { manufacturer, sku, oem_strings, ..SmbiosConfig::default() };
        let bytes = tables(&config);
        prop_assert!(bytes.len() as u64 <= layout::GENERATION_ID - layout::SMBIOS);
        let found = walk(&bytes);
        let system = &found[1].2;
        prop_assert_eq!(&system[0], config.manufacturer.as_deref().unwrap_or("Virga"));
        let oem = found.iter().find(|(kind, ..)| *kind == OEM_STRINGS);
        prop_assert_eq!(oem.map_or(&[][..], |(.., strings)| strings), &config.oem_strings[..]);
    }
}
