//! Guest memory: how it is made, beside how much of it there is.

use serde::{Deserialize, Serialize};

use super::MAX_MEMORY_BYTES;
use super::error::{ConfigError, refuse};
use super::numbers::Numbers;
use crate::arch::layout;

/// Where nodes, and what is plugged, may begin and end: Linux maps memory in large pages.
const NODE_ALIGNMENT: u64 = 2 << 20;
/// The most nodes: one for each vCPU is plenty.
const MAX_NODES: usize = 32;
/// What memory that is hot-plugged comes in, unless the user says otherwise: Linux' own choice on x86-64.
const DEFAULT_BLOCK_BYTES: u64 = 2 << 20;
/// Distance of a node from itself (ACPI 6.5 §5.2.17), and of one node from another unless it is given.
const LOCAL_DISTANCE: u8 = 10;
const REMOTE_DISTANCE: u8 = 20;

/// Pages that guest memory is made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HugePages {
    /// Small ones, or what the host does by itself.
    #[default]
    #[serde(rename = "none")]
    None,
    /// Large ones where the host finds some (transparent huge pages).
    #[serde(rename = "transparent")]
    Transparent,
    /// Pages of 2 MiB that the host's administrator has set aside.
    #[serde(rename = "2MiB")]
    Of2MiB,
    /// Pages of 1 GiB that the host's administrator has set aside.
    #[serde(rename = "1GiB")]
    Of1GiB,
}

impl HugePages {
    /// Size of pages that are set aside.
    #[must_use]
    pub fn reserved_size(self) -> Option<u64> {
        match self {
            Self::None | Self::Transparent => None,
            Self::Of2MiB => Some(2 << 20),
            Self::Of1GiB => Some(1 << 30),
        }
    }
}

/// How guest memory is made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryConfig {
    /// Other processes may map the memory by descriptor (memfd), as vhost-user needs it. Kernel and initrd are copied
    /// then; in private memory of small pages they are mapped copy-on-write.
    #[serde(default)]
    pub shared: bool,
    /// What pages it is made of.
    #[serde(default)]
    pub hugepages: HugePages,
    /// Take all of it from the host before the guest starts.
    #[serde(default)]
    pub prefault: bool,
    /// NUMA nodes that the guest sees, in order; none for a machine without.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeConfig>,
    /// Distances between nodes, a row for each; without it 10 within a node and 20 otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub distances: Vec<Vec<u8>>,
    /// Memory that is plugged and unplugged while the guest runs (virtio-mem).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hotplug: Option<MemoryHotplugConfig>,
}

/// A NUMA node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// Its vCPUs, as a list like `0-3,8`.
    pub vcpus: Numbers,
    /// Its part of the guest's memory.
    pub memory_bytes: u64,
    /// Nodes of the host from which that memory is taken; without it, any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_nodes: Option<Numbers>,
}

/// Memory that is plugged and unplugged while the guest runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryHotplugConfig {
    /// The most that may ever be plugged.
    pub max_bytes: u64,
    /// What is plugged and unplugged at once, a power of two.
    #[serde(default = "default_block_bytes")]
    pub block_bytes: u64,
    /// What the guest is asked to plug at the start.
    #[serde(default)]
    pub requested_bytes: u64,
    /// NUMA node of that memory.
    #[serde(default)]
    pub node: u16,
}

fn default_block_bytes() -> u64 {
    DEFAULT_BLOCK_BYTES
}

impl MemoryConfig {
    /// Checks the section for a VM with so much memory and so many vCPUs.
    pub(super) fn check(&self, memory_bytes: u64, max_vcpus: u8) -> Result<(), ConfigError> {
        if let Some(size) = self.hugepages.reserved_size()
            && !memory_bytes.is_multiple_of(size)
        {
            let problem = format!("with memory.hugepages it has to be a multiple of {size}");
            return Err(refuse("memory_bytes", memory_bytes, problem));
        }
        self.check_nodes(memory_bytes, max_vcpus)?;
        self.check_distances()?;
        match &self.hotplug {
            Some(hotplug) => {
                hotplug.check(memory_bytes, self.hugepages)?;
                let nodes = self.nodes.len().max(1);
                match usize::from(hotplug.node) < nodes {
                    true => Ok(()),
                    false => {
                        let problem = format!("the VM has nodes 0 to {}", nodes - 1);
                        Err(refuse("memory.hotplug.node", hotplug.node, problem))
                    }
                }
            }
            None => Ok(()),
        }
    }

    fn check_nodes(&self, memory_bytes: u64, max_vcpus: u8) -> Result<(), ConfigError> {
        let nodes = &self.nodes;
        if nodes.is_empty() {
            return Ok(());
        }
        if nodes.len() > MAX_NODES {
            return Err(refuse(
                "memory.nodes",
                nodes.len(),
                format!("at most {MAX_NODES} nodes"),
            ));
        }
        let mut total = 0u64;
        let mut owner = vec![None; usize::from(max_vcpus)];
        let align = self.hugepages.reserved_size().unwrap_or(NODE_ALIGNMENT);
        for (index, node) in nodes.iter().enumerate() {
            let field = |name: &str| format!("memory.nodes[{index}].{name}");
            let bytes = node.memory_bytes;
            if bytes == 0 || !bytes.is_multiple_of(align) {
                let problem = format!("use a multiple of {align}");
                return Err(refuse(field("memory_bytes"), bytes, problem));
            }
            total = total.saturating_add(bytes);
            for vcpu in node.vcpus.iter() {
                let Some(owner) = owner.get_mut(usize::from(vcpu)) else {
                    let problem = format!("the VM has vCPUs 0 to {}", max_vcpus - 1);
                    return Err(refuse(field("vcpus"), &node.vcpus, problem));
                };
                if let Some(other) = owner.replace(index) {
                    let problem = format!("vCPU {vcpu} is in node {other} already");
                    return Err(refuse(field("vcpus"), &node.vcpus, problem));
                }
            }
        }
        if total != memory_bytes {
            let problem = format!("the nodes' memory has to add up to memory_bytes ({memory_bytes})");
            return Err(refuse("memory.nodes", format!("{total} bytes together"), problem));
        }
        match owner.iter().position(Option::is_none) {
            Some(vcpu) => {
                let problem = "each vCPU has to be in one node, also those that may be added (cpu.max)";
                Err(refuse("memory.nodes", format!("without vCPU {vcpu}"), problem))
            }
            None => Ok(()),
        }
    }

    fn check_distances(&self) -> Result<(), ConfigError> {
        let (rows, nodes) = (&self.distances, self.nodes.len());
        if rows.is_empty() {
            return Ok(());
        }
        if rows.len() != nodes || rows.iter().any(|row| row.len() != nodes) {
            let problem = format!("give a row of {nodes} numbers for each of the {nodes} nodes");
            return Err(refuse("memory.distances", format!("{rows:?}"), problem));
        }
        for (from, row) in rows.iter().enumerate() {
            for (to, &distance) in row.iter().enumerate() {
                let fits = match from == to {
                    true => distance == LOCAL_DISTANCE,
                    false => distance > LOCAL_DISTANCE,
                };
                if !fits {
                    let problem = "use 10 within a node and 11 to 255 (not to be reached) between two";
                    return Err(refuse(
                        format!("memory.distances[{from}][{to}]"),
                        distance,
                        problem,
                    ));
                }
            }
        }
        Ok(())
    }

    /// Distance of one node from another.
    #[must_use]
    pub fn distance(&self, from: usize, to: usize) -> u8 {
        let given = self.distances.get(from).and_then(|row| row.get(to));
        let usual = match from == to {
            true => LOCAL_DISTANCE,
            false => REMOTE_DISTANCE,
        };
        given.copied().unwrap_or(usual)
    }

    /// Checks that a processor with so many bits of physical addresses reaches all memory.
    pub fn check_addresses(&self, memory_bytes: u64, bits: u32) -> Result<(), ConfigError> {
        let hotplug_bytes = self.hotplug_bytes();
        let end = layout::memory_end(memory_bytes, hotplug_bytes);
        if end <= layout::addresses_end(bits) {
            return Ok(());
        }
        let with = match hotplug_bytes {
            0 => String::new(),
            bytes => format!("with memory.hotplug.max_bytes ({bytes}) "),
        };
        let problem = format!(
            "{with}it reaches up to address {end:#x}, but with the {bits} bits of physical addresses of this host's processor \
             there are addresses up to {:#x} only; use less",
            layout::addresses_end(bits)
        );
        Err(refuse("memory_bytes", memory_bytes, problem))
    }

    /// The most memory that may be plugged.
    #[must_use]
    pub fn hotplug_bytes(&self) -> u64 {
        self.hotplug.as_ref().map_or(0, |hotplug| hotplug.max_bytes)
    }
}

impl MemoryHotplugConfig {
    fn check(&self, memory_bytes: u64, hugepages: HugePages) -> Result<(), ConfigError> {
        let Self {
            max_bytes,
            block_bytes,
            requested_bytes,
            ..
        } = *self;
        if hugepages.reserved_size().is_some() {
            let problem =
                "pages that are set aside cannot be given back while the guest runs; use \"transparent\"";
            return Err(refuse(
                "memory.hugepages",
                "not possible with memory.hotplug",
                problem,
            ));
        }
        if !block_bytes.is_power_of_two() || !(DEFAULT_BLOCK_BYTES..=1 << 30).contains(&block_bytes) {
            let problem = format!("use a power of two from {DEFAULT_BLOCK_BYTES} to {}", 1 << 30);
            return Err(refuse("memory.hotplug.block_bytes", block_bytes, problem));
        }
        if max_bytes == 0 || !max_bytes.is_multiple_of(block_bytes) {
            let problem = format!("use a multiple of block_bytes ({block_bytes})");
            return Err(refuse("memory.hotplug.max_bytes", max_bytes, problem));
        }
        if max_bytes > MAX_MEMORY_BYTES - memory_bytes {
            let problem = format!("together with memory_bytes it may be {MAX_MEMORY_BYTES} at most");
            return Err(refuse("memory.hotplug.max_bytes", max_bytes, problem));
        }
        if requested_bytes > max_bytes || !requested_bytes.is_multiple_of(block_bytes) {
            let problem =
                format!("use a multiple of block_bytes ({block_bytes}) up to max_bytes ({max_bytes})");
            return Err(refuse("memory.hotplug.requested_bytes", requested_bytes, problem));
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
