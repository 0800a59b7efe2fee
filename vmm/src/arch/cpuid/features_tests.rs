//! The table of features.

use super::*;
use std::collections::BTreeSet;

#[test]
fn names_and_bits_are_unique_and_everything_needed_exists() {
    let names: BTreeSet<_> = FEATURES.iter().map(|feature| feature.name).collect();
    assert_eq!(names.len(), FEATURES.len());
    for (index, feature) in FEATURES.iter().enumerate() {
        assert!(
            feature.bit < 32 && WORDS.contains(&feature.word),
            "{}",
            feature.name
        );
        let same = FEATURES[..index]
            .iter()
            .find(|other| (other.word, other.bit) == (feature.word, feature.bit));
        assert!(same.is_none(), "{} is {}", feature.name, same.unwrap().name);
        assert!(
            feature.needs.iter().all(|name| names.contains(name)),
            "{}",
            feature.name
        );
    }
}

/// What this machine's kernel uses of its processor, the processor has: by the bit that the table gives for the name.
#[test]
fn names_mean_what_this_machines_kernel_means_by_them() {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap();
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags")).unwrap();
    let mut compared = 0;
    for feature in flags.split_ascii_whitespace().filter_map(find) {
        let Word(leaf, subleaf, register) = feature.word;
        // Leaves of 0x40000000 and of other hypervisors are the guest's view of this machine, if it is a guest.
        if leaf >> 16 == 0x4000 {
            continue;
        }
        let leaf = std::arch::x86_64::__cpuid_count(leaf, subleaf);
        let value = match register {
            Register::Eax => leaf.eax,
            Register::Ebx => leaf.ebx,
            Register::Ecx => leaf.ecx,
            Register::Edx => leaf.edx,
        };
        assert_eq!(value >> feature.bit & 1, 1, "{}", feature.name);
        compared += 1;
    }
    assert!(compared > 20, "{flags}");
}

#[test]
fn misspelt_names_have_near_matches() {
    assert_eq!(similar("avx-512f")[0], "avx512f");
    assert_eq!(similar("AVX2")[0], "avx2");
    assert_eq!(similar("sse4.2")[0], "sse4_2");
    assert!(similar("sse3").contains(&"ssse3"));
    assert!(similar("nonsense_feature").is_empty());
    assert_eq!(
        (
            distance("", "abc"),
            distance("abc", "abc"),
            distance("kitten", "sitting")
        ),
        (3, 0, 3)
    );
}
