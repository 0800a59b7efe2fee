//! SMBIOS tables (DMTF DSP0134, version 3.7): what the machine is called, its serial number and UUID, and free strings.
//!
//! The 64-bit entry point (§5.2.2) is at the start of the area that operating systems search on machines without UEFI, 0xf0000
//! to 0xfffff; the structures follow it. All of it is in the range that the memory map reserves.

use crate::arch::layout;
use crate::config::SmbiosConfig;
use crate::memory::{self, MemoryError, Ram};

/// Version of the specification that the tables follow.
const VERSION: [u8; 2] = [3, 7];
/// Length of the entry point, to the next multiple of 16.
const ENTRY_POINT_BYTES: usize = 32;

/// Types of structures (§7).
const PLATFORM_FIRMWARE: u8 = 0;
const SYSTEM: u8 = 1;
const CHASSIS: u8 = 3;
const OEM_STRINGS: u8 = 11;
const END: u8 = 127;

/// Firmware characteristics (§7.1.1): "characteristics are not supported".
const NO_CHARACTERISTICS: u64 = 1 << 3;
/// Second extension byte (§7.1.2.2): "this is a virtual machine".
const VIRTUAL_MACHINE: u8 = 1 << 4;
/// Wake-up by the power switch (§7.2.2).
const POWER_SWITCH: u8 = 6;
/// Chassis type "other" (§7.4.1), states "unknown" (§7.4.2) and no security (§7.4.3).
const OTHER: u8 = 1;
const UNKNOWN: u8 = 2;

/// The structures one after the other.
#[derive(Default)]
struct Structures {
    bytes: Vec<u8>,
    count: u16,
}

/// A structure's formatted area and its strings, which the area names by number from 1; 0 is none (§6.1.3).
#[derive(Default)]
struct Structure<'a> {
    body: Vec<u8>,
    strings: Vec<&'a str>,
}

impl<'a> Structure<'a> {
    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.body.extend_from_slice(bytes);
        self
    }

    fn string(mut self, text: Option<&'a str>) -> Self {
        let number = text.map_or(0, |text| {
            self.strings.push(text);
            // Structures with fields for strings have a handful; OEM strings are counted, not named.
            self.strings.len() as u8
        });
        self.body.push(number);
        self
    }
}

impl Structures {
    /// Adds a structure (§6.1.2): header, formatted area, strings with their zeros, one more zero.
    fn add(&mut self, kind: u8, structure: Structure<'_>) {
        // Header and formatted areas are a few dozen bytes long.
        let len = (4 + structure.body.len()) as u8;
        self.bytes.extend([kind, len]);
        self.bytes.extend(self.count.to_le_bytes());
        self.bytes.extend(structure.body);
        for text in &structure.strings {
            self.bytes.extend(text.bytes());
            self.bytes.push(0);
        }
        if structure.strings.is_empty() {
            self.bytes.push(0);
        }
        self.bytes.push(0);
        self.count += 1;
    }
}

/// Entry point and structures, for [`layout::SMBIOS`].
#[must_use]
pub fn tables(config: &SmbiosConfig) -> Vec<u8> {
    let manufacturer = config.manufacturer.as_deref().unwrap_or("Virga");
    let version = config.version.as_deref();
    let serial = config.serial.as_deref();
    let sku = config.sku.as_deref();
    let mut all = Structures::default();
    let firmware = Structure::default()
        .string(Some("Virga"))
        .string(Some(env!("CARGO_PKG_VERSION")))
        // No starting segment; no date, which would be that of firmware.
        .bytes(&[0, 0])
        .string(None)
        // Size of the ROM: 64 KiB, the least that can be said.
        .bytes(&[0])
        .bytes(&NO_CHARACTERISTICS.to_le_bytes())
        .bytes(&[0, VIRTUAL_MACHINE])
        // No releases of firmware or embedded controller.
        .bytes(&[0xff; 4])
        .bytes(&[0, 0]);
    all.add(PLATFORM_FIRMWARE, firmware);
    let system = Structure::default()
        .string(Some(manufacturer))
        .string(Some(config.product.as_deref().unwrap_or("microVM")))
        .string(version)
        .string(serial)
        // All zeros mean that there is none (§7.2.1).
        .bytes(&config.uuid.unwrap_or_default().to_bytes_le())
        .bytes(&[POWER_SWITCH])
        .string(sku)
        .string(config.family.as_deref());
    all.add(SYSTEM, system);
    let chassis = Structure::default()
        .string(Some(manufacturer))
        .bytes(&[OTHER])
        .string(version)
        .string(serial)
        // No asset tag; boot-up, power supply, thermal and security states.
        .string(None)
        .bytes(&[UNKNOWN; 4])
        // OEM-defined, height and power cords unspecified, no contained elements.
        .bytes(&[0; 8])
        .string(sku);
    all.add(CHASSIS, chassis);
    if !config.oem_strings.is_empty() {
        let strings = Structure {
            // The configuration allows 255.
            body: vec![config.oem_strings.len() as u8],
            strings: config.oem_strings.iter().map(String::as_str).collect(),
        };
        all.add(OEM_STRINGS, strings);
    }
    all.add(END, Structure::default());
    let mut bytes = entry_point(all.bytes.len() as u32);
    bytes.resize(ENTRY_POINT_BYTES, 0);
    bytes.extend(all.bytes);
    bytes
}

/// The 64-bit entry point (§5.2.2).
fn entry_point(structures_bytes: u32) -> Vec<u8> {
    let mut bytes = b"_SM3_".to_vec();
    // Checksum (below), length, version, revision of the document and of the entry point, reserved.
    bytes.extend([0, 24, VERSION[0], VERSION[1], 0, 1, 0]);
    bytes.extend(structures_bytes.to_le_bytes());
    bytes.extend((layout::SMBIOS + ENTRY_POINT_BYTES as u64).to_le_bytes());
    let sum = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    if let Some(checksum) = bytes.get_mut(5) {
        *checksum = 0u8.wrapping_sub(sum);
    }
    bytes
}

/// Writes the tables into guest memory.
pub fn write(memory: &Ram, config: &SmbiosConfig) -> Result<(), MemoryError> {
    memory::write(memory, layout::SMBIOS, &tables(config))
}

#[cfg(test)]
#[path = "smbios_tests.rs"]
mod tests;
