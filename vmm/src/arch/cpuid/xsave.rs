//! Leaf 0xd: which registers XSAVE saves, and where (SDM vol. 1 §13.2). It has to fit the features: a guest must not
//! find room for AVX registers on a processor without AVX.

use kvm_bindings::kvm_cpuid_entry2;

use super::features::find;
use super::model::Model;

const LEAF: u32 = 0xd;
/// Registers of x87 and SSE, which XSAVE always has, and the bytes they take with the header.
const LEGACY: u64 = 0b11;
const LEGACY_BYTES: u32 = 576;

/// State components and the features any of which needs them.
const COMPONENTS: &[(u32, &[&str])] = &[
    (2, &["avx"]),
    (3, &["mpx"]),
    (4, &["mpx"]),
    (5, &["avx512f"]),
    (6, &["avx512f"]),
    (7, &["avx512f"]),
    (9, &["pku"]),
    (11, &["shstk", "ibt"]),
    (12, &["shstk", "ibt"]),
    (17, &["amx_tile"]),
    (18, &["amx_tile"]),
];

/// Leaves out what the features that are left in `entries` do not need. Components that are not in the table stay with
/// the host's processor, and only there.
pub(super) fn adjust(entries: &mut Vec<kvm_cpuid_entry2>, model: Model) {
    let has = |name: &str| find(name).is_some_and(|feature| feature.is_in(entries));
    let kept: u64 = (2..64)
        .filter(
            |component| match COMPONENTS.iter().find(|(number, _)| number == component) {
                Some((_, features)) => features.iter().any(|name| has(name)),
                None => model == Model::Host,
            },
        )
        .fold(LEGACY, |kept, component| kept | 1 << component);
    if !has("xsave") {
        entries.retain(|entry| entry.function != LEAF);
        return;
    }
    entries.retain(|entry| entry.function != LEAF || entry.index < 2 || kept >> entry.index.min(63) & 1 == 1);
    let bytes = entries
        .iter()
        .filter(|entry| entry.function == LEAF && entry.index >= 2)
        // ECX bit 0: a component of the supervisor, which is not in the user's area.
        .filter(|entry| entry.ecx & 1 == 0)
        .map(|entry| entry.eax.saturating_add(entry.ebx))
        .fold(LEGACY_BYTES, u32::max);
    let (low, high) = (kept as u32, (kept >> 32) as u32);
    for entry in entries.iter_mut().filter(|entry| entry.function == LEAF) {
        match entry.index {
            // What XCR0 may hold, and the room that all of it takes. EBX, the room for what is switched on, is KVM's.
            0 => {
                (entry.eax, entry.edx) = (entry.eax & low, entry.edx & high);
                entry.ecx = bytes;
            }
            // What IA32_XSS may hold.
            1 => (entry.ecx, entry.edx) = (entry.ecx & low, entry.edx & high),
            _ => {}
        }
    }
}

#[cfg(test)]
#[path = "xsave_tests.rs"]
mod tests;
