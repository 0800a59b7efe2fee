//! What the host is made of: `/1.0/resources`.
//!
//! The parts that nobody on this host can fill in yet (GPUs, USB) are there with empty lists, as clients expect.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The host's hardware.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Resources {
    pub cpu: Cpu,
    pub memory: Memory,
    pub gpu: Gpu,
    pub network: Network,
    pub storage: Storage,
    pub usb: Usb,
    pub pci: Pci,
    pub system: System,
    pub load: Load,
}

/// Processors.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Cpu {
    pub architecture: String,
    pub sockets: Vec<CpuSocket>,
    pub total: u64,
}

/// A processor package.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct CpuSocket {
    pub name: String,
    pub vendor: String,
    pub socket: u64,
    pub cache: Vec<CpuCache>,
    pub cores: Vec<CpuCore>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequency: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequency_minimum: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequency_turbo: Option<u64>,
}

/// A cache of a processor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct CpuCache {
    pub level: u64,
    #[serde(rename = "type")]
    pub kind: String,
    pub size: u64,
}

/// A core.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct CpuCore {
    pub core: u64,
    pub die: u64,
    pub threads: Vec<CpuThread>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequency: Option<u64>,
    pub flags: Vec<String>,
}

/// A hardware thread.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct CpuThread {
    pub id: i64,
    pub numa_node: u64,
    pub thread: u64,
    pub online: bool,
    pub isolated: bool,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Memory {
    pub nodes: Vec<MemoryNode>,
    pub hugepages_total: u64,
    pub hugepages_used: u64,
    pub hugepages_size: u64,
    pub used: u64,
    pub total: u64,
}

/// Memory of a node, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct MemoryNode {
    pub numa_node: u64,
    pub hugepages_used: u64,
    pub hugepages_total: u64,
    pub used: u64,
    pub total: u64,
}

/// Graphics cards.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Gpu {
    pub cards: Vec<Value>,
    pub total: u64,
}

/// Network cards.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Network {
    pub cards: Vec<NetworkCard>,
    pub total: u64,
}

/// A network card.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct NetworkCard {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub driver: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub driver_version: String,
    pub ports: Vec<NetworkPort>,
    pub numa_node: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pci_address: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub vendor_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub product_id: String,
}

/// A port of a network card.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct NetworkPort {
    pub id: String,
    pub address: String,
    pub port: u64,
    pub protocol: String,
    pub auto_negotiation: bool,
    pub link_detected: bool,
}

/// Disks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Storage {
    pub disks: Vec<Disk>,
    pub total: u64,
}

/// A disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Disk {
    pub id: String,
    pub device: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub model: String,
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    pub read_only: bool,
    pub size: u64,
    pub removable: bool,
    pub numa_node: u64,
    pub block_size: u64,
    pub rpm: u64,
    pub device_id: String,
    pub partitions: Vec<DiskPartition>,
}

/// A partition of a disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct DiskPartition {
    pub id: String,
    pub device: String,
    pub read_only: bool,
    pub size: u64,
    pub partition: u64,
}

/// USB devices.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Usb {
    pub devices: Vec<Value>,
    pub total: u64,
}

/// PCI devices.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Pci {
    pub devices: Vec<PciDevice>,
    pub total: u64,
}

/// A PCI device.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct PciDevice {
    pub driver: String,
    pub driver_version: String,
    pub numa_node: u64,
    pub pci_address: String,
    pub vendor: String,
    pub vendor_id: String,
    pub product: String,
    pub product_id: String,
    pub iommu_group: u64,
    pub vpd: serde_json::Map<String, Value>,
}

/// The machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct System {
    pub uuid: String,
    pub vendor: String,
    pub product: String,
    pub family: String,
    pub version: String,
    pub sku: String,
    pub serial: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub firmware: Option<Value>,
    pub chassis: Option<Value>,
    pub motherboard: Option<Value>,
}

/// How busy the host is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Load {
    #[serde(rename = "Average1Min")]
    pub average_1_min: f64,
    #[serde(rename = "Average5Min")]
    pub average_5_min: f64,
    #[serde(rename = "Average10Min")]
    pub average_10_min: f64,
    #[serde(rename = "Processes")]
    pub processes: u64,
}
