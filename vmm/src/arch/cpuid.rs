//! What CPUID tells the guest: everything KVM supports, with the topology of this VM in place of the host's.
//!
//! The topology is one package with one thread per core, so that the guest's scheduler treats vCPUs alike. Leaves
//! that describe it (1, 4, 0xb, 0x1f, 0x80000008, 0x8000001d, 0x8000001e) are rewritten for each vCPU; leaf 0xa
//! (performance counters) goes, because counters of the host mean nothing here.

use kvm_bindings::{CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

/// Leaf 1 ECX: x2APIC, TSC deadline timer, hypervisor.
const X2APIC: u32 = 1 << 21;
const TSC_DEADLINE: u32 = 1 << 24;
const HYPERVISOR: u32 = 1 << 31;
/// Leaf 1 EDX: the logical processor count in EBX is valid.
const HTT: u32 = 1 << 28;
/// Level types of leaves 0xb and 0x1f.
const LEVEL_THREAD: u32 = 1;
const LEVEL_CORE: u32 = 2;

/// Number of APIC id bits that tell `vcpus` cores apart.
fn core_bits(vcpus: u8) -> u32 {
    u32::from(vcpus).next_power_of_two().trailing_zeros()
}

/// Rewrites `base` (from `KVM_GET_SUPPORTED_CPUID`) for the vCPU with this APIC id. `None` if the result has more
/// entries than KVM takes.
pub fn for_vcpu(base: &CpuId, apic_id: u8, vcpus: u8, tsc_deadline: bool) -> Option<CpuId> {
    let amd = base
        .as_slice()
        .iter()
        .any(|e| e.function == 0 && e.ebx == u32::from_le_bytes(*b"Auth"));
    let mut entries = Vec::with_capacity(base.as_slice().len() + 4);
    let mut topology_leaves = Vec::new();
    for entry in base.as_slice() {
        match entry.function {
            // Extended topology of recent AMD processors: without it kernels use leaf 0xb, which is rewritten.
            0xa | 0x8000_0026 => {}
            0xb | 0x1f => {
                if !topology_leaves.contains(&entry.function) {
                    topology_leaves.push(entry.function);
                }
            }
            _ => entries.push(adjusted(*entry, apic_id, vcpus, tsc_deadline, amd)),
        }
    }
    for leaf in topology_leaves {
        entries.extend(levels(leaf, apic_id, vcpus));
    }
    CpuId::from_entries(&entries).ok()
}

fn adjusted(
    mut entry: kvm_cpuid_entry2,
    apic_id: u8,
    vcpus: u8,
    tsc_deadline: bool,
    amd: bool,
) -> kvm_cpuid_entry2 {
    let count = u32::from(vcpus);
    match entry.function {
        0x1 => {
            entry.ebx = (entry.ebx & 0x0000_ffff) | u32::from(apic_id) << 24 | count << 16;
            entry.ecx |= HYPERVISOR | X2APIC;
            // KVM leaves this bit to us because it depends on the in-kernel APIC (KVM API §4.46).
            entry.ecx = if tsc_deadline {
                entry.ecx | TSC_DEADLINE
            } else {
                entry.ecx & !TSC_DEADLINE
            };
            entry.edx = if vcpus > 1 {
                entry.edx | HTT
            } else {
                entry.edx & !HTT
            };
        }
        // Deterministic cache parameters: levels 1 and 2 belong to one core, level 3 to the package.
        0x4 if entry.eax & 0x1f != 0 => {
            let sharers = if entry.eax >> 5 & 7 >= 3 {
                1 << core_bits(vcpus)
            } else {
                1
            };
            entry.eax = (entry.eax & 0x3fff) | (sharers - 1) << 14 | ((1u32 << core_bits(vcpus)) - 1) << 26;
        }
        0x8000_001d if entry.eax & 0x1f != 0 => {
            let sharers = if entry.eax >> 5 & 7 >= 3 { count } else { 1 };
            entry.eax = (entry.eax & 0x3fff) | (sharers - 1) << 14;
        }
        // AMD: number of threads and APIC id bits; Intel has this register reserved.
        0x8000_0008 if amd => entry.ecx = (entry.ecx & !0xf0ff) | (count - 1) | core_bits(vcpus) << 12,
        0x8000_001e => {
            entry.eax = u32::from(apic_id);
            // One thread in each core; one node.
            entry.ebx = (entry.ebx & !0xffff) | u32::from(apic_id);
            entry.ecx &= !0x7ff;
        }
        _ => {}
    }
    entry
}

/// Sub-leaves of the extended topology leaves (SDM vol. 2, CPUID leaf 0bh).
fn levels(function: u32, apic_id: u8, vcpus: u8) -> [kvm_cpuid_entry2; 3] {
    let level = |index: u32, kind: u32, shift: u32, count: u32| kvm_cpuid_entry2 {
        function,
        index,
        flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        eax: shift,
        ebx: count,
        ecx: kind << 8 | index,
        edx: u32::from(apic_id),
        ..Default::default()
    };
    [
        level(0, LEVEL_THREAD, 0, 1),
        level(1, LEVEL_CORE, core_bits(vcpus), u32::from(vcpus)),
        level(2, 0, 0, 0),
    ]
}

#[cfg(test)]
#[path = "cpuid_tests.rs"]
mod tests;
