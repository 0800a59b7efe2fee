//! Network cards, disks and PCI devices.

use std::path::{Path, PathBuf};

use api::resources::{Disk, DiskPartition, Network, NetworkCard, NetworkPort, Pci, PciDevice, Storage};

use super::{names, number, text};

/// `0x1af4` as `1af4`.
fn id(path: impl AsRef<Path>) -> String {
    text(path)
        .map(|text| text.trim_start_matches("0x").to_owned())
        .unwrap_or_default()
}

/// The last part of where a link points.
fn link_name(path: impl AsRef<Path>) -> String {
    std::fs::read_link(path)
        .ok()
        .and_then(|target| Some(target.file_name()?.to_string_lossy().into_owned()))
        .unwrap_or_default()
}

fn numa_node(device: &Path) -> u64 {
    // -1: the kernel does not know.
    number(device.join("numa_node")).unwrap_or(0)
}

/// The PCI device that a device is or belongs to (a virtio device belongs to one).
fn pci_parent(device: &Path) -> Option<PathBuf> {
    let real = std::fs::canonicalize(device).ok()?;
    real.ancestors()
        .find(|path| link_name(path.join("subsystem")) == "pci")
        .map(Path::to_owned)
}

pub(super) fn network() -> Network {
    let mut cards = Vec::new();
    for name in names("/sys/class/net") {
        let path = Path::new("/sys/class/net").join(&name);
        let device = path.join("device");
        if !device.exists() {
            // Bridges, veths and taps are no cards.
            continue;
        }
        let pci = pci_parent(&device);
        let pci_file = |file: &str| pci.as_ref().map(|pci| id(pci.join(file))).unwrap_or_default();
        cards.push(NetworkCard {
            driver: link_name(device.join("driver")),
            numa_node: pci.as_deref().map_or(0, numa_node),
            pci_address: pci
                .as_ref()
                .and_then(|pci| Some(pci.file_name()?.to_string_lossy().into_owned()))
                .unwrap_or_default(),
            vendor_id: pci_file("vendor"),
            product_id: pci_file("device"),
            ports: vec![NetworkPort {
                address: text(path.join("address")).unwrap_or_default(),
                port: number(path.join("dev_port")).unwrap_or(0),
                protocol: "ethernet".to_owned(),
                auto_negotiation: false,
                link_detected: number(path.join("carrier")) == Some(1),
                id: name,
            }],
            ..NetworkCard::default()
        });
    }
    Network {
        total: cards.len() as u64,
        cards,
    }
}

pub(super) fn storage() -> Storage {
    let mut disks = Vec::new();
    for name in names("/sys/class/block") {
        let path = Path::new("/sys/class/block").join(&name);
        if !path.join("device").exists() {
            // Partitions, loop devices and device mapper targets are shown with what they are on, or not at all.
            continue;
        }
        let kind = match link_name(path.join("device/subsystem")).as_str() {
            "nvme" => "nvme".to_owned(),
            "virtio" => "virtio".to_owned(),
            "scsi" => "scsi".to_owned(),
            other => other.to_owned(),
        };
        let partitions = names(&path)
            .into_iter()
            .filter_map(|entry| {
                let partition = number(path.join(&entry).join("partition"))?;
                Some(DiskPartition {
                    device: text(path.join(&entry).join("dev"))?,
                    read_only: number(path.join(&entry).join("ro")) == Some(1),
                    // In sectors of 512 bytes, whatever the device's are.
                    size: number(path.join(&entry).join("size"))? * 512,
                    partition,
                    id: entry,
                })
            })
            .collect();
        disks.push(Disk {
            device: text(path.join("dev")).unwrap_or_default(),
            model: text(path.join("device/model")).unwrap_or_default(),
            kind,
            read_only: number(path.join("ro")) == Some(1),
            size: number(path.join("size")).unwrap_or(0) * 512,
            removable: number(path.join("removable")) == Some(1),
            numa_node: pci_parent(&path.join("device")).as_deref().map_or(0, numa_node),
            block_size: number(path.join("queue/logical_block_size")).unwrap_or(0),
            rpm: number(path.join("queue/rotational")).unwrap_or(0),
            partitions,
            id: name,
            ..Disk::default()
        });
    }
    Storage {
        total: disks.len() as u64,
        disks,
    }
}

pub(super) fn pci() -> Pci {
    let devices: Vec<PciDevice> = names("/sys/bus/pci/devices")
        .into_iter()
        .map(|address| {
            let path = Path::new("/sys/bus/pci/devices").join(&address);
            PciDevice {
                driver: link_name(path.join("driver")),
                numa_node: numa_node(&path),
                vendor_id: id(path.join("vendor")),
                product_id: id(path.join("device")),
                iommu_group: link_name(path.join("iommu_group")).parse().unwrap_or(0),
                pci_address: address,
                ..PciDevice::default()
            }
        })
        .collect();
    Pci {
        total: devices.len() as u64,
        devices,
    }
}
