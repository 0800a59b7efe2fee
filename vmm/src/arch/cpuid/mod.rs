//! What CPUID tells the guest: everything KVM supports, with the topology of this VM in place of the host's.
//!
//! A [`Template`] holds what all vCPUs of a VM have in common. Leaves that describe the topology are written for each
//! vCPU; leaf 0xa (performance counters) goes, because counters of the host mean nothing here.

mod topology;

use kvm_bindings::{CpuId, kvm_cpuid_entry2};

use super::topology::Topology;

/// Leaf 1 ECX: x2APIC, TSC deadline timer, hypervisor.
const X2APIC: u32 = 1 << 21;
const TSC_DEADLINE: u32 = 1 << 24;
const HYPERVISOR: u32 = 1 << 31;

/// CPUID of a VM, but for what differs between its vCPUs.
#[derive(Debug, Clone)]
pub struct Template {
    entries: Vec<kvm_cpuid_entry2>,
    topology: Topology,
    vendor: Vendor,
}

/// Whose processor it is, where that makes a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Vendor {
    Amd,
    /// Intel, and those who do as it does.
    Intel,
}

impl Vendor {
    fn of(entries: &[kvm_cpuid_entry2]) -> Self {
        let amd = |entry: &kvm_cpuid_entry2| {
            entry.function == 0 && [*b"Auth", *b"Hygo"].map(u32::from_le_bytes).contains(&entry.ebx)
        };
        match entries.iter().any(amd) {
            true => Self::Amd,
            false => Self::Intel,
        }
    }
}

impl Template {
    /// Starts from what KVM supports (`KVM_GET_SUPPORTED_CPUID`).
    #[must_use]
    pub fn new(supported: &CpuId, topology: Topology, tsc_deadline: bool) -> Self {
        let mut entries = Vec::with_capacity(supported.as_slice().len());
        for entry in supported.as_slice() {
            match entry.function {
                // Extended topology of recent AMD processors: without it kernels use leaf 0xb, which is rewritten.
                0xa | 0x8000_0026 => {}
                0x1 => entries.push(with_apic(*entry, tsc_deadline)),
                _ => entries.push(*entry),
            }
        }
        Self {
            vendor: Vendor::of(&entries),
            entries,
            topology,
        }
    }

    /// CPUID of the vCPU with this index. `None` if it has more entries than KVM takes.
    #[must_use]
    pub fn for_vcpu(&self, index: u8) -> Option<CpuId> {
        let entries = topology::describe(&self.entries, self.topology, index, self.vendor);
        CpuId::from_entries(&entries).ok()
    }
}

fn with_apic(mut entry: kvm_cpuid_entry2, tsc_deadline: bool) -> kvm_cpuid_entry2 {
    entry.ecx |= HYPERVISOR | X2APIC;
    // KVM leaves this bit to us because it depends on the in-kernel APIC (KVM API §4.46).
    match tsc_deadline {
        true => entry.ecx |= TSC_DEADLINE,
        false => entry.ecx &= !TSC_DEADLINE,
    }
    entry
}
