//! ACPI tables: hardware-reduced (ACPI 6.5 §4.1), just enough for a guest to find its processors, interrupts, PCI or
//! virtio-mmio devices and serial port, to power off, to reset, and to hear of buttons and of parts that come and go.
//!
//! Everything is at [`layout::ACPI_TABLES`] in an area that the memory map reserves.

mod events;
mod numa;
mod pci;
mod processors;

use acpi_tables::aml::{
    Device, EISAName, IO, Interrupt, Memory32Fixed, Name, ONE, Package, Path, ResourceTemplate, Scope, ZERO,
};
use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace as GasSpace, GAS};
use acpi_tables::madt::{EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use acpi_tables::{Aml, AmlSink};

use super::layout;
use super::topology::Topology;
use crate::config::MemoryConfig;
use crate::memory::{self, MemoryError, Ram};
use crate::pvpanic;

const OEM_ID: [u8; 6] = *b"VIRGA ";
const OEM_TABLE: [u8; 8] = *b"VIRGAVM ";
const OEM_REVISION: u32 = 1;

/// `IAPC_BOOT_ARCH` (§5.2.9.3): no VGA; bits for legacy devices and keyboard controller stay clear.
const NO_VGA: u16 = 1 << 2;

/// Since revision 5 of the MADT its processors may be online capable (ACPI 6.3 §5.2.12); this is that of ACPI 6.5.
const MADT_REVISION: u8 = 6;

/// Sleep type of the soft-off state, chosen by us and told to the guest in `_S5`.
pub const SLEEP_TYPE_S5: u8 = 5;
/// What the guest writes to the reset register.
pub const RESET_VALUE: u8 = 1;
/// Registers at [`layout::ACPI_PORTS`]: sleep control, sleep status, reset, what the event device tells of.
pub const SLEEP_CONTROL: u16 = layout::ACPI_PORTS;
/// See [`SLEEP_CONTROL`].
pub const SLEEP_STATUS: u16 = layout::ACPI_PORTS + 1;
/// See [`SLEEP_CONTROL`].
pub const RESET: u16 = layout::ACPI_PORTS + 2;
/// See [`SLEEP_CONTROL`].
pub const SELECTOR: u16 = layout::ACPI_PORTS + 3;

/// How the guest finds its virtio devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceBus {
    /// A PCI host bridge.
    Pci,
    /// One entry for each virtio-mmio device: address and interrupt.
    Mmio(Vec<(u64, u32)>),
}

/// Tables in guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tables {
    /// Guest address of the root pointer.
    pub rsdp: u64,
    /// Bytes that all tables take.
    pub bytes: u64,
}

/// What the tables describe.
#[derive(Debug, Clone)]
pub struct Platform {
    /// Guest memory.
    pub memory_bytes: u64,
    /// How it is divided, and what may be added.
    pub memory: MemoryConfig,
    /// Processors that are there at the start.
    pub vcpus: u8,
    /// All processors that there may be.
    pub topology: Topology,
    /// How devices are found.
    pub bus: DeviceBus,
    /// Whether there is a VM generation id.
    pub generation_id: bool,
}

/// Writes all tables.
pub fn write_tables(memory: &Ram, platform: &Platform) -> Result<Tables, MemoryError> {
    let mut next = layout::ACPI_TABLES + Rsdp::len().next_multiple_of(16) as u64;
    let mut put = |table: Vec<u8>| -> Result<u64, MemoryError> {
        let address = next;
        memory::write(memory, address, &table)?;
        next += table.len().next_multiple_of(16) as u64;
        Ok(address)
    };
    let dsdt = put(dsdt(platform))?;
    let mut xsdt = XSDT::new(OEM_ID, OEM_TABLE, OEM_REVISION);
    xsdt.add_entry(put(fadt(dsdt))?);
    xsdt.add_entry(put(madt(platform))?);
    if platform.bus == DeviceBus::Pci {
        xsdt.add_entry(put(pci::mcfg())?);
    }
    for table in numa::tables(platform) {
        xsdt.add_entry(put(table)?);
    }
    let xsdt = put(bytes_of(&xsdt))?;
    memory::write(memory, layout::ACPI_TABLES, &bytes_of(&Rsdp::new(OEM_ID, xsdt)))?;
    Ok(Tables {
        rsdp: layout::ACPI_TABLES,
        bytes: next - layout::ACPI_TABLES,
    })
}

/// Objects that are encoded already.
struct Encoded(Vec<u8>);

impl Aml for Encoded {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        sink.vec(&self.0);
    }
}

fn bytes_of(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

fn port_register(port: u16) -> GAS {
    GAS::new(GasSpace::SystemIo, 8, 0, AccessSize::ByteAccess, u64::from(port))
}

fn fadt(dsdt: u64) -> Vec<u8> {
    let mut fadt = FADTBuilder::new(OEM_ID, OEM_TABLE, OEM_REVISION)
        .dsdt_64(dsdt)
        .flag(Flags::HwReducedAcpi)
        .flag(Flags::ResetRegSup)
        // "Power button is a control method device", "no sleep button", "no fixed RTC wake" (§5.2.9 table 5.10).
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton)
        .flag(Flags::FixRtc)
        .flag(Flags::Wbinvd);
    // Some systems look at the 32-bit pointer only; both may be set when they agree.
    fadt.dsdt = (dsdt as u32).into();
    fadt.iapc_boot_arch = NO_VGA.into();
    fadt.sleep_control_reg = port_register(SLEEP_CONTROL);
    fadt.sleep_status_reg = port_register(SLEEP_STATUS);
    fadt.reset_reg = port_register(RESET);
    fadt.reset_value = RESET_VALUE;
    fadt.hypervisor_vendor_identity = u64::from_le_bytes(*b"VIRGA\0\0\0").into();
    bytes_of(&fadt.finalize())
}

/// All processors, those that may come later too: an operating system makes room for what it finds here (§5.2.12.2).
fn madt(platform: &Platform) -> Vec<u8> {
    let controller = LocalInterruptController::Address(layout::LOCAL_APIC);
    let mut madt = MADT::new(OEM_ID, OEM_TABLE, OEM_REVISION, controller);
    let mut free_id = 0;
    for index in 0..platform.topology.processors() as u8 {
        let status = match index < platform.vcpus {
            true => EnabledStatus::Enabled,
            false => EnabledStatus::DisabledOnlineCapable,
        };
        let apic_id = platform.topology.apic_id(index);
        madt.add_structure(ProcessorLocalApic::new(index, apic_id, status));
        free_id = apic_id + 1;
    }
    // Its id only has to differ from those of the local APICs.
    madt.add_structure(IoApic::new(free_id, layout::IO_APIC, 0));
    with_revision(bytes_of(&madt), MADT_REVISION)
}

/// The table with another revision number, and the checksum that goes with it (§5.2.6: offsets 8 and 9).
fn with_revision(mut table: Vec<u8>, revision: u8) -> Vec<u8> {
    if let [old, checksum] = &mut table[8..10] {
        *checksum = checksum.wrapping_add(*old).wrapping_sub(revision);
        *old = revision;
    }
    table
}

fn dsdt(platform: &Platform) -> Vec<u8> {
    let mut body = Vec::new();
    Name::new(
        Path::new("_S5_"),
        &Package::new(vec![&SLEEP_TYPE_S5, &ZERO, &ZERO, &ZERO]),
    )
    .to_aml_bytes(&mut body);
    let mut devices = vec![
        serial(),
        events::power_button(),
        events::sleep_button(),
        events::event_device(platform),
    ];
    if processors::are_pluggable(platform) {
        devices.push(processors::container(platform));
    }
    if platform.generation_id {
        devices.push(events::generation_id());
    }
    match &platform.bus {
        DeviceBus::Pci => {
            devices.push(pci::ecam_reservation());
            devices.push(pci::host_bridge(platform));
        }
        DeviceBus::Mmio(all) => {
            devices.push(panic_device());
            devices.extend(
                all.iter()
                    .zip(0..)
                    .map(|((address, irq), index)| virtio_mmio(index, *address, *irq)),
            );
        }
    }
    body.extend(Scope::raw(Path::new("\\_SB_"), devices.concat()));
    // Revision 2 makes integers 64 bits wide (§19.6.29).
    let mut table = Sdt::new(*b"DSDT", 36, 2, OEM_ID, OEM_TABLE, OEM_REVISION);
    table.append_slice(&body);
    table.update_checksum();
    table.as_slice().to_vec()
}

fn serial() -> Vec<u8> {
    let hid = Name::new(Path::new("_HID"), &EISAName::new("PNP0501"));
    let uid = Name::new(Path::new("_UID"), &ZERO);
    let ports = IO::new(layout::COM1_PORT, layout::COM1_PORT, 0, 8);
    let interrupt = Interrupt::new(true, true, false, false, layout::COM1_IRQ);
    let resources = ResourceTemplate::new(vec![&ports, &interrupt]);
    bytes_of(&Device::new(
        Path::new("COM1"),
        vec![&hid, &uid, &Name::new(Path::new("_CRS"), &resources)],
    ))
}

/// Where there is no PCI, the device that hears of panics is a port.
fn panic_device() -> Vec<u8> {
    let hid = Name::new(Path::new("_HID"), &"QEMU0001");
    let port = IO::new(pvpanic::PORT, pvpanic::PORT, 1, 1);
    let resources = ResourceTemplate::new(vec![&port]);
    bytes_of(&Device::new(
        Path::new("PEVT"),
        vec![&hid, &Name::new(Path::new("_CRS"), &resources)],
    ))
}

/// A virtio-mmio device by the id that Linux' driver knows (drivers/virtio/virtio_mmio.c).
fn virtio_mmio(index: u32, address: u64, irq: u32) -> Vec<u8> {
    let name = format!("VR{index:02X}");
    let hid = Name::new(Path::new("_HID"), &"LNRO0005");
    let uid = Name::new(Path::new("_UID"), &index);
    let coherent = Name::new(Path::new("_CCA"), &ONE);
    let registers = Memory32Fixed::new(true, address as u32, layout::PAGE as u32);
    let interrupt = Interrupt::new(true, true, false, false, irq);
    let resources = ResourceTemplate::new(vec![&registers, &interrupt]);
    let current = Name::new(Path::new("_CRS"), &resources);
    bytes_of(&Device::new(
        name.as_str().into(),
        vec![&hid, &uid, &coherent, &current],
    ))
}

#[cfg(test)]
#[path = "acpi_tests.rs"]
mod tests;
