//! Takes the memory of each node of the guest from the nodes of the host that the configuration names.

use std::fs;
use std::io;

use super::load::host_range;
use super::{MemoryError, Ram};
use crate::arch::layout::node_ranges;
use crate::config::{MemoryConfig, Numbers};

/// Nodes of the host that have memory.
const WITH_MEMORY: &str = "/sys/devices/system/node/has_memory";
/// `MPOL_BIND`: from these nodes or not at all; `MPOL_F_STATIC_NODES`: whatever becomes of this process' own set
/// (linux/mempolicy.h).
const MPOL_BIND: libc::c_int = 2;
const MPOL_F_STATIC_NODES: libc::c_int = 1 << 15;

/// Binds memory to the host's nodes. Must come before pages are touched.
pub(super) fn bind(memory: &Ram, memory_bytes: u64, config: &MemoryConfig) -> Result<(), MemoryError> {
    if config.nodes.iter().all(|node| node.host_nodes.is_none()) {
        return Ok(());
    }
    let text = fs::read_to_string(WITH_MEMORY).unwrap_or_default();
    let there: Numbers = text.trim().parse().unwrap_or_default();
    let sizes: Vec<u64> = config.nodes.iter().map(|node| node.memory_bytes).collect();
    for (node, start, len) in node_ranges(memory_bytes, &sizes) {
        let Some(wanted) = config.nodes.get(node).and_then(|node| node.host_nodes.as_ref()) else {
            continue;
        };
        if wanted.is_empty() || wanted.iter().any(|node| !there.contains(node)) {
            return Err(MemoryError::NoHostNode {
                node,
                wanted: wanted.to_string(),
                there: there.to_string(),
            });
        }
        let address = host_range(memory, start, len)?;
        bind_range(address, len, wanted).map_err(|source| MemoryError::Bind {
            node,
            wanted: wanted.to_string(),
            source,
        })?;
    }
    Ok(())
}

fn bind_range(address: *mut u8, len: u64, nodes: &Numbers) -> io::Result<()> {
    let mut mask = Vec::new();
    for node in nodes.iter().map(usize::from) {
        if mask.len() <= node / 64 {
            mask.resize(node / 64 + 1, 0u64);
        }
        if let Some(word) = mask.get_mut(node / 64) {
            *word |= 1 << (node % 64);
        }
    }
    // SAFETY: the call sets the policy of a range of guest memory and reads the mask, which outlives it. The kernel
    // takes one bit less than it is told (mbind(2), "BUGS").
    let result = unsafe {
        libc::syscall(
            libc::SYS_mbind,
            address,
            len,
            MPOL_BIND | MPOL_F_STATIC_NODES,
            mask.as_ptr(),
            mask.len() * 64 + 1,
            0,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
