//! What CPUID tells the guest: the features of its processor model, of what KVM supports on this host, and the topology
//! of this VM in place of the host's.
//!
//! A [`Template`] holds what all vCPUs of a VM have in common. Leaves that describe the topology are written for each
//! vCPU. Performance counters are left out altogether (leaves 0xa and 0x80000022, and the features around them), because
//! counters of the host mean nothing here.

pub mod features;
pub mod model;
mod topology;
mod xsave;

use kvm_bindings::{CpuId, kvm_cpuid_entry2};

use super::topology::Topology;
use model::{Changes, Model, ModelError};

/// Leaf 1 ECX: x2APIC, TSC deadline timer, hypervisor; performance capabilities.
const X2APIC: u32 = 1 << 21;
const TSC_DEADLINE: u32 = 1 << 24;
const HYPERVISOR: u32 = 1 << 31;
const PDCM: u32 = 1 << 15;
/// Leaf 0x80000001 ECX: counters of cores, northbridges and last-level caches.
const COUNTER_EXTENSIONS: u32 = 1 << 23 | 1 << 24 | 1 << 28;

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
    pub fn new(
        supported: &CpuId,
        topology: Topology,
        tsc_deadline: bool,
        model: Model,
        changes: &Changes,
    ) -> Result<Self, ModelError> {
        let mut entries = Vec::with_capacity(supported.as_slice().len());
        for mut entry in supported.as_slice().iter().copied() {
            match entry.function {
                // Extended topology of recent AMD processors: without it kernels use leaf 0xb, which is rewritten.
                0xa | 0x8000_0022 | 0x8000_0026 => continue,
                0x1 => {
                    entry.ecx = (entry.ecx | HYPERVISOR | X2APIC) & !PDCM;
                    // KVM leaves this bit to us because it depends on the in-kernel APIC (KVM API §4.46).
                    match tsc_deadline {
                        true => entry.ecx |= TSC_DEADLINE,
                        false => entry.ecx &= !TSC_DEADLINE,
                    }
                }
                0x8000_0001 => entry.ecx &= !COUNTER_EXTENSIONS,
                _ => {}
            }
            entries.push(entry);
        }
        let vendor = Vendor::of(&entries);
        model::apply(&mut entries, model, changes, vendor)?;
        xsave::adjust(&mut entries, model);
        Ok(Self {
            entries,
            topology,
            vendor,
        })
    }

    /// Whether the guest's processor has this feature.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        features::find(name).is_some_and(|feature| feature.is_in(&self.entries))
    }

    /// CPUID of the vCPU with this index. `None` if it has more entries than KVM takes.
    #[must_use]
    pub fn for_vcpu(&self, index: u8) -> Option<CpuId> {
        let entries = topology::describe(&self.entries, self.topology, index, self.vendor);
        CpuId::from_entries(&entries).ok()
    }
}
