//! Processors that come and go (ACPI 6.5 §8.4.1): one device each in a container, which has the registers of
//! [`devices::hotplug`] and the method that passes on what they tell. Machines whose processors stay have none of this; the MADT
//! is enough for them.

use acpi_tables::aml::{
    And, BufferData, Device, Else, If, Local, Method, Name, Notify, Path, Return, Store, ZERO,
};

use super::pci::{DEVICE_CHECK, EJECT_REQUEST, registers};
use super::{Encoded, Platform, bytes_of};
use crate::arch::layout;

/// The method that looks for processors that came or are to go.
pub(super) const SCAN: &str = "\\_SB_.CPUS.SCAN";
/// `_STA` (§6.3.7): present, enabled, shown and working.
const THERE: u8 = 0xf;

/// Whether processors come and go.
pub(super) fn are_pluggable(platform: &Platform) -> bool {
    platform.topology.processors() > u32::from(platform.vcpus)
}

/// The container.
pub(super) fn container(platform: &Platform) -> Vec<u8> {
    let hid = Name::new(Path::new("_HID"), &"ACPI0010");
    let uid = Name::new(Path::new("_UID"), &ZERO);
    let mut body = registers("CPUR", layout::PROCESSOR_PORTS);
    let (added, wanted) = (Path::new("ADDD"), Path::new("WANT"));
    let (added, wanted) = (Store::new(&Local(0), &added), Store::new(&Local(1), &wanted));
    let mut scan = [bytes_of(&added), bytes_of(&wanted)].concat();
    for index in 0..platform.topology.processors() as u8 {
        body.extend(processor(platform, index));
        let (device, bit) = (name(index), 1u32 << index);
        for (news, code) in [(Local(0), DEVICE_CHECK), (Local(1), EJECT_REQUEST)] {
            let test = And::new(&ZERO, &news, &bit);
            scan.extend(bytes_of(&If::new(&test, vec![&Notify::new(&device, &code)])));
        }
    }
    let (body, scan) = (Encoded(body), Encoded(scan));
    let scan = Method::new(Path::new("SCAN"), 0, true, vec![&scan]);
    bytes_of(&Device::new(Path::new("CPUS"), vec![&hid, &uid, &body, &scan]))
}

fn name(index: u8) -> Path {
    Path::new(&format!("C{index:03}"))
}

fn processor(platform: &Platform, index: u8) -> Vec<u8> {
    let hid = Name::new(Path::new("_HID"), &"ACPI0007");
    let uid = Name::new(Path::new("_UID"), &index);
    // What the MADT has of it (§5.2.12.2), with "enabled": whether it is there is told by `_STA`.
    let entry = BufferData::new(vec![0, 8, index, platform.topology.apic_id(index), 1, 0, 0, 0]);
    let entry = Name::new(Path::new("_MAT"), &entry);
    let (present, bit) = (Path::new("PRES"), 1u32 << index);
    let test = And::new(&ZERO, &present, &bit);
    let (there, not_there) = (Return::new(&THERE), Return::new(&ZERO));
    let (then, otherwise) = (If::new(&test, vec![&there]), Else::new(vec![&not_there]));
    let status = Method::new(Path::new("_STA"), 0, true, vec![&then, &otherwise]);
    let eject = Path::new("EJEC");
    let eject = Store::new(&eject, &bit);
    let eject = Method::new(Path::new("_EJ0"), 1, true, vec![&eject]);
    bytes_of(&Device::new(
        name(index),
        vec![&hid, &uid, &entry, &status, &eject],
    ))
}
