//! The PCI host bridge, and its slots, whose devices come and go (ACPI 6.5 §6.3).

use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, And, Device, EISAName, Field, FieldAccessType, FieldEntry,
    FieldLockRule, FieldUpdateRule, IO, If, Local, Memory32Fixed, Method, Name, Notify, ONE, OpRegion,
    OpRegionSpace, Path, ResourceTemplate, Store, ZERO,
};
use acpi_tables::mcfg::MCFG;
use devices::hotplug;
use devices::pci::bus::SLOTS;

use super::{Encoded, OEM_ID, OEM_REVISION, OEM_TABLE, Platform, bytes_of};
use crate::arch::layout;

/// The method that looks for slots whose devices came or are to go.
pub(super) const SCAN: &str = "\\_SB_.PCI0.SCAN";
/// "Something has come here" (§5.6.6).
pub(super) const DEVICE_CHECK: u8 = 1;
/// "Let go of this".
pub(super) const EJECT_REQUEST: u8 = 3;

pub(super) fn mcfg() -> Vec<u8> {
    let mut mcfg = MCFG::new(OEM_ID, OEM_TABLE, OEM_REVISION);
    mcfg.add_ecam(layout::ECAM.0, 0, 0, 0);
    bytes_of(&mcfg)
}

/// Linux trusts the MCFG only if a motherboard resource reserves the area too (PCI firmware specification §4.1.2).
pub(super) fn ecam_reservation() -> Vec<u8> {
    let hid = Name::new(Path::new("_HID"), &EISAName::new("PNP0C02"));
    let uid = Name::new(Path::new("_UID"), &ZERO);
    let area = Memory32Fixed::new(true, layout::ECAM.0 as u32, layout::ECAM.1 as u32);
    let resources = ResourceTemplate::new(vec![&area]);
    bytes_of(&Device::new(
        Path::new("MBRS"),
        vec![&hid, &uid, &Name::new(Path::new("_CRS"), &resources)],
    ))
}

pub(super) fn host_bridge(platform: &Platform) -> Vec<u8> {
    let hid = Name::new(Path::new("_HID"), &EISAName::new("PNP0A08"));
    let cid = Name::new(Path::new("_CID"), &EISAName::new("PNP0A03"));
    let segment = Name::new(Path::new("_SEG"), &ZERO);
    let bus = Name::new(Path::new("_BBN"), &ZERO);
    let uid = Name::new(Path::new("_UID"), &ZERO);
    let coherent = Name::new(Path::new("_CCA"), &ONE);
    let buses = AddressSpace::new_bus_number(0u16, 0u16);
    let config_ports = IO::new(0xcf8, 0xcf8, 1, 8);
    let low_ports = AddressSpace::new_io(0u16, 0xcf7u16, None);
    let high_ports = AddressSpace::new_io(0xd00u16, 0xffffu16, None);
    let (low, low_len) = layout::PCI_WINDOW_32;
    let memory_32 = AddressSpace::new_memory(
        AddressSpaceCacheable::NotCacheable,
        true,
        low as u32,
        (low + low_len - 1) as u32,
        None,
    );
    let (high, high_len) = layout::pci_window_64(platform.memory_bytes, platform.memory.hotplug_bytes());
    let memory_64 = AddressSpace::new_memory(
        AddressSpaceCacheable::NotCacheable,
        true,
        high,
        high + high_len - 1,
        None,
    );
    let resources = ResourceTemplate::new(vec![
        &buses,
        &config_ports,
        &low_ports,
        &high_ports,
        &memory_32,
        &memory_64,
    ]);
    let current = Name::new(Path::new("_CRS"), &resources);
    let slots = Encoded(slots());
    bytes_of(&Device::new(
        Path::new("PCI0"),
        vec![&hid, &cid, &segment, &bus, &uid, &coherent, &current, &slots],
    ))
}

/// All slots but the host bridge's, each with a method by which the guest lets go of its device, and the method that
/// passes on what the [registers](devices::hotplug) tell.
fn slots() -> Vec<u8> {
    let mut body = registers("SLTR", layout::SLOT_PORTS);
    let (added, wanted) = (Path::new("ADDD"), Path::new("WANT"));
    let (added, wanted) = (Store::new(&Local(0), &added), Store::new(&Local(1), &wanted));
    let mut scan = [bytes_of(&added), bytes_of(&wanted)].concat();
    for slot in 1..SLOTS {
        let (name, bit) = (format!("S{slot:03}"), 1u32 << slot);
        let name = || Path::new(&name);
        let number = Name::new(Path::new("_SUN"), &slot);
        let address = Name::new(Path::new("_ADR"), &(u32::from(slot) << 16));
        let eject = Path::new("EJEC");
        let eject = Store::new(&eject, &bit);
        let eject = Method::new(Path::new("_EJ0"), 1, true, vec![&eject]);
        body.extend(bytes_of(&Device::new(name(), vec![&number, &address, &eject])));
        for (news, code) in [(Local(0), DEVICE_CHECK), (Local(1), EJECT_REQUEST)] {
            let test = And::new(&ZERO, &news, &bit);
            let device = name();
            scan.extend(bytes_of(&If::new(&test, vec![&Notify::new(&device, &code)])));
        }
    }
    let scan = Encoded(scan);
    body.extend(bytes_of(&Method::new(Path::new("SCAN"), 0, true, vec![&scan])));
    body
}

/// The registers of [`devices::hotplug`] at a port, as fields.
pub(super) fn registers(region: &str, port: u16) -> Vec<u8> {
    let size = hotplug::SIZE as u8;
    let ports = OpRegion::new(Path::new(region), OpRegionSpace::SystemIO, &port, &size);
    let field = Field::new(
        Path::new(region),
        FieldAccessType::DWord,
        FieldLockRule::NoLock,
        FieldUpdateRule::Preserve,
        [b"PRES", b"ADDD", b"WANT", b"EJEC"]
            .map(|name| FieldEntry::Named(*name, 32))
            .to_vec(),
    );
    [bytes_of(&ports), bytes_of(&field)].concat()
}
