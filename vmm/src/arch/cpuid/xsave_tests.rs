//! What XSAVE saves.

use super::*;

fn entry(function: u32, index: u32, [eax, ebx, ecx, edx]: [u32; 4]) -> kvm_cpuid_entry2 {
    kvm_cpuid_entry2 {
        function,
        index,
        eax,
        ebx,
        ecx,
        edx,
        ..Default::default()
    }
}

/// A processor with AVX, AVX-512, PKU, CET and AMX, as real ones lay it out.
fn host() -> Vec<kvm_cpuid_entry2> {
    vec![
        entry(1, 0, [0, 0, 1 << 26 | 1 << 28, 0]),
        entry(7, 0, [0, 1 << 5 | 1 << 16, 1 << 3 | 1 << 7, 1 << 24]),
        entry(0xd, 0, [0x602e7, 576, 11008, 0]),
        entry(0xd, 1, [0x1f, 0, 0x1800, 0]),
        entry(0xd, 2, [256, 576, 0, 0]),
        entry(0xd, 5, [64, 1088, 0, 0]),
        entry(0xd, 6, [512, 1152, 0, 0]),
        entry(0xd, 7, [1024, 1664, 0, 0]),
        entry(0xd, 9, [8, 2688, 0, 0]),
        entry(0xd, 11, [16, 0, 1, 0]),
        entry(0xd, 12, [24, 0, 1, 0]),
        entry(0xd, 17, [64, 2752, 2, 0]),
        entry(0xd, 18, [8192, 2816, 6, 0]),
    ]
}

fn leaf(entries: &[kvm_cpuid_entry2], index: u32) -> Option<[u32; 4]> {
    let found = entries
        .iter()
        .find(|entry| entry.function == 0xd && entry.index == index);
    found.map(|entry| [entry.eax, entry.ebx, entry.ecx, entry.edx])
}

fn without(names: &[&str]) -> Vec<kvm_cpuid_entry2> {
    let mut entries = host();
    for name in names {
        let feature = find(name).unwrap();
        for entry in &mut entries {
            if let Some(register) = feature.word.of(entry) {
                *register &= !(1 << feature.bit);
            }
        }
    }
    adjust(&mut entries, Model::Host);
    entries
}

#[test]
fn a_processor_that_keeps_its_features_keeps_its_registers() {
    assert_eq!(without(&[]), host());
}

#[test]
fn registers_go_with_their_features_and_the_room_shrinks() {
    let entries = without(&["amx_tile", "avx512f"]);
    assert_eq!(leaf(&entries, 0), Some([0x207, 576, 2696, 0]));
    assert_eq!((leaf(&entries, 5), leaf(&entries, 17)), (None, None));
    assert!(leaf(&entries, 9).is_some(), "protection keys stay where they are");
    let entries = without(&["amx_tile", "avx512f", "avx2", "avx", "pku", "shstk"]);
    assert_eq!(leaf(&entries, 0), Some([3, 576, 576, 0]));
    assert_eq!(leaf(&entries, 1), Some([0x1f, 0, 0, 0]));
    assert_eq!(entries.iter().filter(|entry| entry.function == 0xd).count(), 2);
}

#[test]
fn without_xsave_the_leaf_is_gone() {
    assert!(without(&["xsave"]).iter().all(|entry| entry.function != 0xd));
}

#[test]
fn levels_have_no_registers_that_nobody_named() {
    let mut entries = host();
    entries.push(entry(0xd, 19, [128, 960, 0, 0]));
    entries[2].eax |= 1 << 19;
    let mut level = entries.clone();
    adjust(&mut level, Model::V4);
    assert_eq!((leaf(&level, 19), leaf(&level, 0).unwrap()[0] >> 19), (None, 0));
    adjust(&mut entries, Model::Host);
    assert!(leaf(&entries, 19).is_some());
}
