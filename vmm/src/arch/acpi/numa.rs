//! NUMA nodes: which processors and which memory belong together (SRAT, ACPI 6.5 §5.2.16) and how far the nodes are
//! from each other (SLIT, §5.2.17).
//!
//! Memory that may be plugged later is in the SRAT, too, also on machines without nodes: Linux then counts it in when
//! it decides how devices reach memory.

use acpi_tables::sdt::Sdt;
use acpi_tables::srat::MemoryAffinity;

use super::{OEM_ID, OEM_REVISION, OEM_TABLE, Platform, bytes_of};
use crate::arch::layout;
use crate::config::{MemoryConfig, NodeConfig};

/// Processor local APIC affinity (§5.2.16.1): type, length, and the flag of entries that count.
const PROCESSOR: u8 = 0;
const PROCESSOR_LEN: u8 = 16;
const ENABLED: u32 = 1;

/// The tables that describe nodes, as far as there is something to say.
pub(super) fn tables(platform: &Platform) -> Vec<Vec<u8>> {
    let memory = &platform.memory;
    match (memory.nodes.as_slice(), &memory.hotplug) {
        ([], None) => vec![],
        ([], Some(_)) => vec![srat(platform, &[only_node(platform)])],
        (nodes, _) => vec![srat(platform, nodes), slit(memory)],
    }
}

/// A machine without nodes as one.
fn only_node(platform: &Platform) -> NodeConfig {
    NodeConfig {
        vcpus: (0..platform.topology.processors() as u16).collect(),
        memory_bytes: platform.memory_bytes,
        host_nodes: None,
    }
}

fn srat(platform: &Platform, nodes: &[NodeConfig]) -> Vec<u8> {
    let mut table = Sdt::new(*b"SRAT", 48, 3, OEM_ID, OEM_TABLE, OEM_REVISION);
    // "Reserved to be 1 for backward compatibility", and eight bytes of zero.
    table.write_u32(36, 1);
    for (node, domain) in nodes.iter().zip(0u32..) {
        for vcpu in node.vcpus.iter() {
            let mut entry = vec![
                PROCESSOR,
                PROCESSOR_LEN,
                domain as u8,
                platform.topology.apic_id(vcpu as u8),
            ];
            entry.extend(ENABLED.to_le_bytes());
            // The upper bits of a domain, of which there are less than 256, and of other ids.
            entry.extend([0; 8]);
            table.append_slice(&entry);
        }
    }
    let sizes: Vec<u64> = nodes.iter().map(|node| node.memory_bytes).collect();
    for (node, start, len) in layout::node_ranges(platform.memory_bytes, &sizes) {
        table.append_slice(&bytes_of(&MemoryAffinity::new(node as u32, start, len).enabled()));
    }
    if let Some(hotplug) = &platform.memory.hotplug
        && let Some((start, len)) = layout::hotplug_region(platform.memory_bytes, hotplug.max_bytes)
    {
        let range = MemoryAffinity::new(u32::from(hotplug.node), start, len);
        let range = range.enabled().hotpluggable();
        table.append_slice(&bytes_of(&range));
    }
    table.update_checksum();
    table.as_slice().to_vec()
}

fn slit(memory: &MemoryConfig) -> Vec<u8> {
    let nodes = memory.nodes.len();
    let mut table = Sdt::new(*b"SLIT", 36, 1, OEM_ID, OEM_TABLE, OEM_REVISION);
    table.append_slice(&(nodes as u64).to_le_bytes());
    for from in 0..nodes {
        let row: Vec<u8> = (0..nodes).map(|to| memory.distance(from, to)).collect();
        table.append_slice(&row);
    }
    table.update_checksum();
    table.as_slice().to_vec()
}
