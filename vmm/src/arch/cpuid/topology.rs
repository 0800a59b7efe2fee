//! The leaves that describe the topology: 1, 4, 0xb, 0x1f, 0x80000001, 0x80000008, 0x8000001d, 0x8000001e.

use kvm_bindings::{KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

use super::{Topology, Vendor};

/// Leaf 1 EDX: the logical processor count in EBX is valid.
const HTT: u32 = 1 << 28;
/// Leaf 0x80000001 ECX of AMD: the processors that HTT tells of are cores.
const CMP_LEGACY: u32 = 1 << 1;
/// Level types of leaves 0xb and 0x1f.
const LEVEL_THREAD: u32 = 1;
const LEVEL_CORE: u32 = 2;

/// `entries` with the topology as the processor with this index sees it.
pub(super) fn describe(
    entries: &[kvm_cpuid_entry2],
    topology: Topology,
    index: u8,
    vendor: Vendor,
) -> Vec<kvm_cpuid_entry2> {
    let processor = Processor {
        topology,
        apic_id: topology.apic_id(index),
        core: topology.place(index).1,
        socket: topology.place(index).0,
        vendor,
    };
    let mut described = Vec::with_capacity(entries.len() + 4);
    for entry in entries {
        match entry.function {
            // All sub-leaves take the place of the host's first.
            0xb | 0x1f if entry.index == 0 => described.extend(processor.levels(entry.function)),
            0xb | 0x1f => {}
            _ => described.push(processor.adjusted(*entry)),
        }
    }
    described
}

struct Processor {
    topology: Topology,
    apic_id: u8,
    socket: u8,
    core: u8,
    vendor: Vendor,
}

impl Processor {
    fn adjusted(&self, mut entry: kvm_cpuid_entry2) -> kvm_cpuid_entry2 {
        let topology = &self.topology;
        let count = topology.processors_per_socket();
        // Caches of levels 1 and 2 belong to one core, those of level 3 to the package. All counts are of ids.
        let sharers = |cache: u32| match cache >> 5 & 7 {
            3.. => 1u32 << topology.socket_shift(),
            _ => 1 << topology.thread_bits(),
        };
        match (entry.function, self.vendor) {
            (0x1, vendor) => {
                let ids = match vendor {
                    Vendor::Amd => count,
                    Vendor::Intel => 1 << topology.socket_shift(),
                };
                entry.ebx = (entry.ebx & 0x0000_ffff) | u32::from(self.apic_id) << 24 | ids << 16;
                set(&mut entry.edx, HTT, count > 1);
            }
            // Deterministic cache parameters (SDM vol. 2, CPUID leaf 04h).
            (0x4, _) if entry.eax & 0x1f != 0 => {
                let cores = (1u32 << topology.core_bits()) - 1;
                entry.eax = (entry.eax & 0x3fff) | (sharers(entry.eax) - 1) << 14 | cores << 26;
            }
            // The rest is AMD's (APM vol. 3, appendix E.4); Intel has the first two registers for other things.
            (0x8000_0001, Vendor::Amd) => set(&mut entry.ecx, CMP_LEGACY, count > 1),
            (0x8000_0008, Vendor::Amd) => {
                entry.ecx = (entry.ecx & !0xf0ff) | (count - 1) | topology.socket_shift() << 12;
            }
            (0x8000_001d, _) if entry.eax & 0x1f != 0 => {
                entry.eax = (entry.eax & 0x3fff) | (sharers(entry.eax) - 1) << 14;
            }
            (0x8000_001e, _) => {
                entry.eax = u32::from(self.apic_id);
                let threads = u32::from(topology.threads) - 1;
                entry.ebx = (entry.ebx & !0xffff) | threads << 8 | u32::from(self.core);
                // One node in each package.
                entry.ecx = (entry.ecx & !0x7ff) | u32::from(self.socket);
            }
            _ => {}
        }
        entry
    }

    /// Sub-leaves of the extended topology leaves (SDM vol. 2, CPUID leaf 0bh).
    fn levels(&self, function: u32) -> [kvm_cpuid_entry2; 3] {
        let topology = &self.topology;
        let level = |index: u32, kind: u32, shift: u32, count: u32| kvm_cpuid_entry2 {
            function,
            index,
            flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
            eax: shift,
            ebx: count,
            ecx: kind << 8 | index,
            edx: u32::from(self.apic_id),
            ..Default::default()
        };
        [
            level(
                0,
                LEVEL_THREAD,
                topology.thread_bits(),
                u32::from(topology.threads),
            ),
            level(
                1,
                LEVEL_CORE,
                topology.socket_shift(),
                topology.processors_per_socket(),
            ),
            level(2, 0, 0, 0),
        ]
    }
}

fn set(register: &mut u32, bit: u32, on: bool) {
    match on {
        true => *register |= bit,
        false => *register &= !bit,
    }
}

#[cfg(test)]
#[path = "topology_tests.rs"]
mod tests;
