//! Processors of guests.

use super::*;
use crate::arch::cpuid::{HYPERVISOR, TSC_DEADLINE, Template, X2APIC};
use crate::arch::topology::Topology;
use kvm_bindings::CpuId;
use proptest::prelude::*;

/// A host that has every feature of the table, and a bit that nobody knows in each register.
fn everything(vendor: &[u8; 4]) -> Vec<kvm_cpuid_entry2> {
    let mut entries = vec![kvm_cpuid_entry2 {
        ebx: u32::from_le_bytes(*vendor),
        ..Default::default()
    }];
    for word in WORDS {
        if !entries
            .iter()
            .any(|entry| (entry.function, entry.index) == (word.0, word.1))
        {
            entries.push(kvm_cpuid_entry2 {
                function: word.0,
                index: word.1,
                ..Default::default()
            });
        }
        for entry in &mut entries {
            if let Some(register) = word.of(entry) {
                *register = u32::MAX;
            }
        }
    }
    entries
}

fn changes(added: &[&str], removed: &[&str]) -> Changes {
    let find = |names: &[&str]| names.iter().map(|name| find(name).unwrap()).collect();
    Changes {
        added: find(added),
        removed: find(removed),
    }
}

fn names(entries: &[kvm_cpuid_entry2]) -> BTreeSet<&'static str> {
    FEATURES
        .iter()
        .filter(|feature| feature.is_in(entries))
        .map(|feature| feature.name)
        .collect()
}

fn guest(model: Model, changes: &Changes) -> Vec<kvm_cpuid_entry2> {
    let mut entries = everything(b"Genu");
    apply(&mut entries, model, changes, Vendor::Intel).unwrap();
    entries
}

#[test]
fn levels_have_their_features_and_nothing_of_the_next() {
    let of = |model| names(&guest(model, &Changes::default()));
    let (v2, v3, v4) = (of(Model::V2), of(Model::V3), of(Model::V4));
    assert!(v2.is_subset(&v3) && v3.is_subset(&v4));
    assert!(v2.contains("sse4_2") && v2.contains("kvm_clocksource2") && !v2.contains("avx"));
    assert!(v3.contains("avx2") && !v3.contains("avx512f"));
    assert!(
        v4.contains("avx512vl")
            && !v4.contains("vmx")
            && !v4.contains("amx_tile")
            && !v4.contains("spec_ctrl")
    );
    let unnamed = WORDS.iter().map(|word| {
        let known = bits(FEATURES.iter().filter(|feature| feature.word == *word));
        word.read(&guest(Model::V4, &Changes::default())) & !known
    });
    assert_eq!(
        unnamed.sum::<u32>(),
        0,
        "bits that have no name are not passed on"
    );
}

#[test]
fn the_hosts_processor_is_passed_on_but_for_what_is_left_out() {
    let entries = guest(Model::Host, &changes(&[], &["avx", "rdrand"]));
    let (all, left) = (names(&everything(b"Genu")), names(&entries));
    let gone: BTreeSet<_> = all.difference(&left).copied().collect();
    for name in [
        "avx",
        "avx2",
        "fma",
        "avx512f",
        "avx512_fp16",
        "avx10",
        "vaes",
        "xop",
        "rdrand",
    ] {
        assert!(gone.contains(name), "{name}");
    }
    assert!(left.contains("xsave") && left.contains("sse4_2") && left.contains("amx_tile"));
    let word = Word(7, 0, Register::Edx);
    assert_eq!(word.read(&entries) & 1, 1, "bits that have no name stay");
}

#[test]
fn what_the_host_lacks_is_named_with_the_remedy() {
    let mut entries = everything(b"Genu");
    for entry in &mut entries {
        if (entry.function, entry.index) == (7, 0) {
            entry.ebx = 0;
        }
    }
    let error = apply(
        &mut entries.clone(),
        Model::V3,
        &Changes::default(),
        Vendor::Intel,
    )
    .unwrap_err();
    assert_eq!(error.missing, ["avx2", "bmi1", "bmi2", "fsgsbase", "smep"]);
    let text = error.to_string();
    assert!(
        text.contains("cpu.model x86-64-v3") && text.contains("\"-avx2\", \"-bmi1\""),
        "{text}"
    );
    let remedy = changes(&[], &["avx2", "bmi1", "bmi2", "fsgsbase", "smep"]);
    apply(&mut entries.clone(), Model::V3, &remedy, Vendor::Intel).unwrap();
    let error = apply(
        &mut entries,
        Model::Host,
        &changes(&["sha_ni"], &[]),
        Vendor::Intel,
    )
    .unwrap_err();
    assert!(error.to_string().contains("does not have sha_ni, "), "{error}");
}

#[test]
fn amd_repeats_the_first_leaf_in_the_extended_one() {
    let mut entries = everything(b"Auth");
    apply(&mut entries, Model::Host, &changes(&[], &["cmov"]), Vendor::Amd).unwrap();
    let (first, extended) = (LEAF_1.read(&entries), LEAF_80000001.read(&entries));
    assert_eq!(first & REPEATED, extended & REPEATED);
    assert_eq!(extended >> 15 & 1, 0);
    apply(&mut entries, Model::V2, &changes(&[], &["cmov"]), Vendor::Amd).unwrap();
    let (first, extended) = (LEAF_1.read(&entries), LEAF_80000001.read(&entries));
    assert_eq!(first & REPEATED, extended & REPEATED);
}

#[test]
fn a_snapshots_features_are_compared_with_the_hosts() {
    let (v4, v3) = (
        guest(Model::V4, &Changes::default()),
        guest(Model::V3, &Changes::default()),
    );
    assert!(missing(&v3, &v4).is_empty());
    assert!(missing(&v4, &v3).contains(&"avx512f"));
}

#[test]
fn a_template_of_a_level_is_that_level_for_every_vcpu() {
    let host = CpuId::from_entries(&everything(b"Genu")).unwrap();
    let choice = (Model::V2, Changes::default());
    let template = Template::new(&host, Topology::flat(2), true, choice.0, &choice.1).unwrap();
    for index in 0..2 {
        let cpuid = template.for_vcpu(index).unwrap();
        let leaf = cpuid.as_slice().iter().find(|entry| entry.function == 1).unwrap();
        assert_eq!(leaf.ebx >> 24, u32::from(index));
        assert_eq!(
            leaf.ecx & (HYPERVISOR | X2APIC | TSC_DEADLINE),
            HYPERVISOR | X2APIC | TSC_DEADLINE
        );
        assert!(
            cpuid.as_slice().iter().all(|entry| entry.function != 0xd),
            "no XSAVE at this level"
        );
    }
}

proptest! {
    #[test]
    fn nothing_is_left_that_cannot_be_without_what_is_gone(removed in proptest::collection::vec(0..FEATURES.len(), 0..8)) {
        let changes = Changes {
            added: vec![],
            removed: removed.iter().map(|index| &FEATURES[*index]).collect(),
        };
        for model in [Model::Host, Model::V2, Model::V3, Model::V4] {
            let left = names(&guest(model, &changes));
            for name in &left {
                let feature = find(name).unwrap();
                prop_assert!(feature.needs.iter().all(|need| left.contains(need)), "{name} in {model:?}");
                prop_assert!(!changes.removed.contains(&feature));
            }
        }
    }
}
