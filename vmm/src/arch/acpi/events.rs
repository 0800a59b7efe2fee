//! The generic event device, and what it tells of that has no file of its own.

use acpi_tables::Aml;
use acpi_tables::aml::{
    And, Device, EISAName, Field, FieldAccessType, FieldEntry, FieldLockRule, FieldUpdateRule, If, Interrupt,
    Local, Method, MethodCall, Name, Notify, OpRegion, OpRegionSpace, Package, Path, ResourceTemplate, Store,
    ZERO,
};

use super::{DeviceBus, Platform, SELECTOR, bytes_of, pci, processors};
use crate::arch::layout;
use crate::events::Event;

/// The button was pressed, the id has changed: what is special to each of these devices (ACPI 6.5 §5.6.6).
const HAPPENED: u8 = 0x80;

/// The power button as a control method device (§4.8.2.2.1.2).
pub(super) fn power_button() -> Vec<u8> {
    button("PWRB", "PNP0C0C")
}

/// The sleep button (§4.8.2.2.2.2).
pub(super) fn sleep_button() -> Vec<u8> {
    button("SLPB", "PNP0C0E")
}

fn button(name: &str, id: &str) -> Vec<u8> {
    let hid = Name::new(Path::new("_HID"), &EISAName::new(id));
    let uid = Name::new(Path::new("_UID"), &ZERO);
    bytes_of(&Device::new(Path::new(name), vec![&hid, &uid]))
}

/// The VM generation id: its compatible id is what drivers look for, its package has the two halves of its address.
pub(super) fn generation_id() -> Vec<u8> {
    let hid = Name::new(Path::new("_HID"), &"VRGA0001");
    let cid = Name::new(Path::new("_CID"), &"VM_Gen_Counter");
    let description = Name::new(Path::new("_DDN"), &"VM_Gen_Counter");
    let (low, high) = (layout::GENERATION_ID as u32, (layout::GENERATION_ID >> 32) as u32);
    let address = Name::new(Path::new("ADDR"), &Package::new(vec![&low, &high]));
    bytes_of(&Device::new(
        Path::new("VGEN"),
        vec![&hid, &cid, &description, &address],
    ))
}

/// The generic event device (§5.6.9): its method reads what has happened, and passes it on.
pub(super) fn event_device(platform: &Platform) -> Vec<u8> {
    let hid = Name::new(Path::new("_HID"), &"ACPI0013");
    let uid = Name::new(Path::new("_UID"), &ZERO);
    let interrupt = Interrupt::new(true, true, false, false, layout::GED_IRQ);
    let resources = ResourceTemplate::new(vec![&interrupt]);
    let current = Name::new(Path::new("_CRS"), &resources);
    let region = OpRegion::new(Path::new("EVTR"), OpRegionSpace::SystemIO, &SELECTOR, &1u8);
    let field = Field::new(
        Path::new("EVTR"),
        FieldAccessType::Byte,
        FieldLockRule::NoLock,
        FieldUpdateRule::Preserve,
        vec![FieldEntry::Named(*b"EVTS", 8)],
    );

    let [power, sleep, generation] =
        ["PWRB", "SLPB", "VGEN"].map(|name| Path::new(&format!("\\_SB_.{name}")));
    let [power, sleep, generation] =
        [&power, &sleep, &generation].map(|device| Notify::new(device, &HAPPENED));
    let processors = MethodCall::new(processors::SCAN.into(), vec![]);
    let slots = MethodCall::new(pci::SCAN.into(), vec![]);
    let mut reactions: Vec<(Event, &dyn Aml)> =
        vec![(Event::PowerButton, &power), (Event::SleepButton, &sleep)];
    if processors::are_pluggable(platform) {
        reactions.push((Event::Processors, &processors));
    }
    if platform.generation_id {
        reactions.push((Event::Generation, &generation));
    }
    if platform.bus == DeviceBus::Pci {
        reactions.push((Event::Slots, &slots));
    }
    let bits: Vec<_> = reactions.iter().map(|(event, _)| *event as u8).collect();
    let tests: Vec<_> = bits.iter().map(|bit| And::new(&ZERO, &Local(0), bit)).collect();
    let cases = tests.iter().zip(&reactions);
    let cases: Vec<_> = cases
        .map(|(test, (_, reaction))| If::new(test, vec![*reaction]))
        .collect();
    let selector = Path::new("EVTS");
    let happened = Store::new(&Local(0), &selector);
    let mut steps: Vec<&dyn Aml> = vec![&happened];
    steps.extend(cases.iter().map(|case| case as &dyn Aml));
    let event = Method::new(Path::new("_EVT"), 1, true, steps);
    bytes_of(&Device::new(
        Path::new("GED_"),
        vec![&hid, &uid, &current, &region, &field, &event],
    ))
}
