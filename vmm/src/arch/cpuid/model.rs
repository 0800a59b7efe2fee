//! Which features the guest's processor has: those of the host, or those of a level of the x86-64 psABI, which many
//! hosts have in common; with some added or left out.

use std::collections::BTreeSet;

use kvm_bindings::kvm_cpuid_entry2;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Vendor;
use super::features::{FEATURES, Feature, Register, WORDS, Word, find};

/// A processor for the guest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Model {
    /// All that the host's processor and KVM have.
    #[default]
    #[serde(rename = "host")]
    Host,
    /// Level 2 of the psABI.
    #[serde(rename = "x86-64-v2")]
    V2,
    /// Level 3: AVX2.
    #[serde(rename = "x86-64-v3")]
    V3,
    /// Level 4: AVX-512.
    #[serde(rename = "x86-64-v4")]
    V4,
}

/// What every level has: the psABI's first level, and what kernels take for granted.
const BASE: &str = "fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 \
                    syscall nx lm";
/// Level 2, and RDTSCP, which every processor of that level has.
const V2: &str = "pni ssse3 cx16 sse4_1 sse4_2 popcnt lahf_lm rdtscp";
/// Level 3, and what every processor of that level has for kernels and cryptography.
const V3: &str = "fma movbe xsave avx f16c bmi1 avx2 bmi2 abm aes pclmulqdq rdrand fsgsbase smep";
/// Level 4, and the same.
const V4: &str =
    "avx512f avx512dq avx512cd avx512bw avx512vl rdseed adx smap clflushopt clwb xsaveopt xsavec xgetbv1";
/// What KVM makes itself, what topology leaves need, and what emulated processors leave out: part of every level where
/// the host has it.
const NEUTRAL: &str = "vme x2apic tsc_deadline_timer hypervisor arat topoext kvm_clocksource kvm_nop_io_delay \
                       kvm_clocksource2 kvm_async_pf kvm_steal_time kvm_pv_eoi kvm_pv_unhalt kvm_pv_tlb_flush \
                       kvm_pv_send_ipi kvm_poll_control kvm_pv_sched_yield kvm_async_pf_int kvm_msi_ext_dest_id \
                       kvm_clocksource_stable";

/// Bits of leaf 1 EDX that AMD repeats in leaf 0x80000001 EDX (APM vol. 3, appendix E.4.2).
const REPEATED: u32 = 0x0183_f3ff;
const LEAF_1: Word = Word(1, 0, Register::Edx);
const LEAF_80000001: Word = Word(0x8000_0001, 0, Register::Edx);
/// Leaves that describe what levels do not have: SGX, processor trace, key locker, AMX, memory encryption.
const BEYOND_LEVELS: [u32; 6] = [0x12, 0x14, 0x19, 0x1d, 0x1e, 0x8000_001f];

/// The guest's processor cannot be made on this host.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "this host's processor or KVM does not have {}, which cpu.model {model} with cpu.features asks for; choose a lower model, or leave {} out by {remedy}",
    .missing.join(", "), if .missing.len() == 1 { "it" } else { "them" }
)]
pub struct ModelError {
    /// Name of the model.
    pub model: &'static str,
    /// What is missing.
    pub missing: Vec<&'static str>,
    /// What to write into `cpu.features`.
    pub remedy: String,
}

impl Model {
    /// What the configuration calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::V2 => "x86-64-v2",
            Self::V3 => "x86-64-v3",
            Self::V4 => "x86-64-v4",
        }
    }

    /// The features that a level always has; none for the host's processor.
    pub fn features(self) -> impl Iterator<Item = &'static Feature> {
        let lists: &[&str] = match self {
            Self::Host => &[],
            Self::V2 => &[BASE, V2],
            Self::V3 => &[BASE, V2, V3],
            Self::V4 => &[BASE, V2, V3, V4],
        };
        named(lists)
    }
}

fn named(lists: &[&'static str]) -> impl Iterator<Item = &'static Feature> {
    lists
        .iter()
        .flat_map(|list| list.split_ascii_whitespace())
        .filter_map(find)
}

/// Changes to a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// What it has besides.
    pub added: Vec<&'static Feature>,
    /// What it does not have.
    pub removed: Vec<&'static Feature>,
}

impl Changes {
    /// What is left out: what was named, and all that cannot be without it.
    #[must_use]
    pub fn without(&self) -> BTreeSet<&'static str> {
        let mut without: BTreeSet<_> = self.removed.iter().map(|feature| feature.name).collect();
        loop {
            let before = without.len();
            let dependent = FEATURES
                .iter()
                .filter(|feature| feature.needs.iter().any(|name| without.contains(name)))
                .map(|feature| feature.name)
                .collect::<Vec<_>>();
            without.extend(dependent);
            if without.len() == before {
                return without;
            }
        }
    }
}

/// Leaves only the features of `model` with its changes in `entries`, which hold what the host supports.
pub(super) fn apply(
    entries: &mut Vec<kvm_cpuid_entry2>,
    model: Model,
    changes: &Changes,
    vendor: Vendor,
) -> Result<(), ModelError> {
    let without = changes.without();
    let wanted: Vec<_> = model
        .features()
        .chain(changes.added.iter().copied())
        .filter(|feature| !without.contains(feature.name))
        .collect();
    let missing: BTreeSet<_> = wanted
        .iter()
        .filter(|feature| !feature.is_in(entries))
        .map(|feature| feature.name)
        .collect();
    if !missing.is_empty() {
        let remedy: Vec<_> = missing.iter().map(|name| format!("\"-{name}\"")).collect();
        return Err(ModelError {
            model: model.name(),
            missing: missing.into_iter().collect(),
            remedy: remedy.join(", "),
        });
    }
    let kept = |word: Word| match model {
        Model::Host => {
            let gone = FEATURES
                .iter()
                .filter(|feature| feature.word == word && without.contains(feature.name));
            !bits(gone)
        }
        _ => {
            let neutral = named(&[NEUTRAL]).filter(|feature| !without.contains(feature.name));
            let all: Vec<_> = wanted.iter().copied().chain(neutral).collect();
            bits(all.into_iter().filter(|feature| feature.word == word))
        }
    };
    let masks: Vec<_> = WORDS.iter().map(|word| (*word, kept(*word))).collect();
    let repeated = LEAF_1.read(entries) & kept(LEAF_1) & REPEATED;
    for entry in entries.iter_mut() {
        for (word, mask) in &masks {
            let Some(register) = word.of(entry) else { continue };
            let host = *register;
            *register &= mask;
            if *word == LEAF_80000001 && vendor == Vendor::Amd {
                *register = (*register & !REPEATED) | (host & repeated);
            }
        }
    }
    if model != Model::Host {
        entries.retain(|entry| !BEYOND_LEVELS.contains(&entry.function));
    }
    Ok(())
}

fn bits(features: impl Iterator<Item = &'static Feature>) -> u32 {
    features.fold(0, |bits, feature| bits | 1 << feature.bit)
}

/// Names of the features in `saved`, the CPUID of a VM from another host, that this host does not support.
#[must_use]
pub fn missing(saved: &[kvm_cpuid_entry2], supported: &[kvm_cpuid_entry2]) -> Vec<&'static str> {
    FEATURES
        .iter()
        .filter(|feature| feature.is_in(saved) && !feature.is_in(supported))
        .map(|feature| feature.name)
        .collect()
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
