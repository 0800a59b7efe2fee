//! Memory.

use std::path::Path;

use api::resources::{Memory, MemoryNode};

use super::{numbered, text};

const NODES: &str = "/sys/devices/system/node";

/// A line of `/proc/meminfo` or a node's: `MemTotal: 16384 kB`, in bytes.
fn line(meminfo: &str, key: &str) -> u64 {
    meminfo
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.split(' ').next_back() == Some(key))
        .and_then(|(_, value)| {
            let mut words = value.split_whitespace();
            let number: u64 = words.next()?.parse().ok()?;
            Some(if words.next() == Some("kB") {
                number * 1024
            } else {
                number
            })
        })
        .unwrap_or(0)
}

pub(super) fn read() -> Memory {
    let meminfo = text("/proc/meminfo").unwrap_or_default();
    let get = |key: &str| line(&meminfo, key);
    let huge = get("Hugepagesize");
    let total = get("MemTotal");
    let available = get("MemAvailable");
    let nodes = numbered(NODES, "node")
        .into_iter()
        .map(|node| {
            let meminfo = text(Path::new(NODES).join(format!("node{node}/meminfo"))).unwrap_or_default();
            let get = |key: &str| line(&meminfo, key);
            let total_huge = get("HugePages_Total") * huge;
            MemoryNode {
                numa_node: node,
                hugepages_used: total_huge.saturating_sub(get("HugePages_Free") * huge),
                hugepages_total: total_huge,
                used: get("MemUsed"),
                total: get("MemTotal"),
            }
        })
        .collect();
    let total_huge = get("HugePages_Total") * huge;
    Memory {
        nodes,
        hugepages_total: total_huge,
        hugepages_used: total_huge.saturating_sub(get("HugePages_Free") * huge),
        hugepages_size: huge,
        used: total.saturating_sub(available),
        total,
    }
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn lines_of_the_host_and_of_nodes_are_read() {
        assert_eq!(
            line("MemTotal:       100 kB\nHugePages_Total:       3\n", "MemTotal"),
            102_400
        );
        assert_eq!(
            line(
                "MemTotal:       100 kB\nHugePages_Total:       3\n",
                "HugePages_Total"
            ),
            3
        );
        assert_eq!(line("Node 0 MemUsed:        7 kB\n", "MemUsed"), 7168);
        assert_eq!(line("", "MemTotal"), 0);
    }
}
