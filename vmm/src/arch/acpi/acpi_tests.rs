//! The tables as a guest walks them, and as the ACPI compiler reads them where it is installed.

use super::*;
use crate::config::MemoryConfig;
use std::process::Command;
use vm_memory::{Bytes, GuestAddress};

fn read(memory: &Ram, address: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    memory.read_slice(&mut bytes, GuestAddress(address)).unwrap();
    bytes
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

fn table(memory: &Ram, address: u64) -> Vec<u8> {
    let len = u32_at(&read(memory, address, 8), 4) as usize;
    let bytes = read(memory, address, len);
    assert_eq!(
        sum(&bytes),
        0,
        "checksum of {:?}",
        String::from_utf8_lossy(&bytes[..4])
    );
    bytes
}

/// All tables by signature, found as a guest finds them.
fn walk(platform: &Platform) -> Vec<(String, Vec<u8>)> {
    let memory = memory::create(4 << 20, &MemoryConfig::default()).unwrap();
    let tables = write_tables(&memory, platform).unwrap();
    assert!(tables.rsdp + tables.bytes <= layout::SMBIOS, "{tables:?}");
    let rsdp = read(&memory, tables.rsdp, 36);
    assert_eq!(&rsdp[..8], b"RSD PTR ");
    assert_eq!((sum(&rsdp[..20]), sum(&rsdp), rsdp[15]), (0, 0, 2));
    let xsdt = table(&memory, u64_at(&rsdp, 24));
    let mut found = Vec::new();
    for pointer in xsdt[36..].chunks_exact(8) {
        let bytes = table(&memory, u64_at(pointer, 0));
        if &bytes[..4] == b"FACP" {
            assert_eq!(u64_at(&bytes, 140), u64::from(u32_at(&bytes, 40)));
            found.push(("DSDT".to_owned(), table(&memory, u64_at(&bytes, 140))));
        }
        found.push((String::from_utf8(bytes[..4].to_vec()).unwrap(), bytes));
    }
    found
}

fn platform(vcpus: u8, bus: DeviceBus) -> Platform {
    Platform {
        memory_bytes: 4 << 20,
        memory: MemoryConfig::default(),
        vcpus,
        topology: Topology::flat(vcpus),
        bus,
        generation_id: true,
    }
}

fn find<'a>(tables: &'a [(String, Vec<u8>)], name: &str) -> &'a [u8] {
    &tables
        .iter()
        .find(|(found, _)| found == name)
        .unwrap_or_else(|| panic!("no {name}"))
        .1
}

#[test]
fn a_guest_finds_registers_processors_and_configuration_space() {
    let tables = walk(&platform(3, DeviceBus::Pci));
    let fadt = find(&tables, "FACP");
    let flags = u32_at(fadt, 112);
    assert_ne!(flags & 1 << 20, 0, "hardware-reduced");
    assert_ne!(flags & 1 << 10, 0, "reset register");
    // Generic addresses: space 1 (ports), 8 bits wide.
    assert_eq!(
        (&fadt[116..120], u64_at(fadt, 120), fadt[128]),
        (&[1, 8, 0, 1][..], 0x602, 1)
    );
    assert_eq!((&fadt[244..248], u64_at(fadt, 248)), (&[1, 8, 0, 1][..], 0x600));
    assert_eq!((&fadt[256..260], u64_at(fadt, 260)), (&[1, 8, 0, 1][..], 0x601));
    let madt = find(&tables, "APIC");
    assert_eq!(madt.len(), 44 + 3 * 8 + 12);
    assert_eq!(u32_at(madt, 36), 0xfee0_0000);
    for (id, entry) in (0u8..3).zip(madt[44..68].chunks_exact(8)) {
        assert_eq!(entry, [0, 8, id, id, 1, 0, 0, 0]);
    }
    assert_eq!(madt[68..80], [1, 12, 3, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0]);
    let mcfg = find(&tables, "MCFG");
    assert_eq!(
        (u64_at(mcfg, 44), &mcfg[52..56]),
        (0xe000_0000, &[0, 0, 0, 0][..])
    );
}

#[test]
fn processors_that_may_come_later_are_listed_with_the_ids_they_will_have() {
    let tables = walk(&Platform {
        topology: Topology {
            sockets: 2,
            cores: 3,
            threads: 1,
        },
        ..platform(2, DeviceBus::Pci)
    });
    let madt = find(&tables, "APIC");
    assert!(madt[8] >= 5, "the revision that knows of them: {}", madt[8]);
    let entries: Vec<_> = madt[44..92].chunks_exact(8).map(|e| (e[2], e[3], e[4])).collect();
    assert_eq!(
        entries,
        [(0, 0, 1), (1, 1, 1), (2, 2, 2), (3, 4, 2), (4, 5, 2), (5, 6, 2)]
    );
    assert_eq!(madt[92..96], [1, 12, 7, 0]);
}

fn numa_platform() -> Platform {
    let section = serde_json::json!({"nodes": [
        {"vcpus": "0,2", "memory_bytes": 3u64 << 30},
        {"vcpus": "1", "memory_bytes": 1u64 << 30},
    ], "distances": [[10, 15], [16, 10]], "hotplug": {"max_bytes": 1u64 << 30, "node": 1}});
    Platform {
        memory_bytes: 4 << 30,
        memory: serde_json::from_value(section).unwrap(),
        topology: Topology {
            sockets: 3,
            cores: 1,
            threads: 1,
        },
        ..platform(2, DeviceBus::Pci)
    }
}

#[test]
fn nodes_have_their_processors_memory_and_distances() {
    let tables = walk(&numa_platform());
    let srat = find(&tables, "SRAT");
    let processors: Vec<_> = srat[48..96]
        .chunks_exact(16)
        .map(|e| (e[0], e[2], e[3], e[4]))
        .collect();
    assert_eq!(processors, [(0, 0, 0, 1), (0, 0, 2, 1), (0, 1, 1, 1)]);
    let memory: Vec<_> = srat[96..]
        .chunks_exact(40)
        .map(|e| (u32_at(e, 2), u64_at(e, 8), u64_at(e, 16), u32_at(e, 28)))
        .collect();
    let (gib, plug) = (1 << 30, 6 << 30);
    assert_eq!(
        memory,
        [(0, 0, 3 * gib, 1), (1, 4 * gib, gib, 1), (1, plug, gib, 3)],
        "the last is what may be plugged"
    );
    let slit = find(&tables, "SLIT");
    assert_eq!((u64_at(slit, 36), &slit[44..]), (2, &[10, 15, 16, 10][..]));
}

#[test]
fn a_machine_without_pci_has_no_configuration_space() {
    let tables = walk(&platform(
        1,
        DeviceBus::Mmio(vec![(0xe800_0000, 6), (0xe800_1000, 7)]),
    ));
    assert!(tables.iter().all(|(name, _)| name != "MCFG"));
    let dsdt = find(&tables, "DSDT");
    assert_eq!(dsdt.windows(8).filter(|window| window == b"LNRO0005").count(), 2);
}

/// The compiler's view: it disassembles without complaint and compiles back to the same bytes.
#[test]
fn the_acpi_compiler_agrees() {
    if Command::new("iasl").arg("-v").output().is_err() {
        eprintln!("skipped: iasl (Debian package acpica-tools) is not installed");
        return;
    }
    for (platform, expected) in [
        (
            pluggable(),
            &[
                "PNP0A08",
                "ACPI0013",
                "PNP0501",
                "PNP0C0C",
                "0xE0000000",
                "ACPI0007",
                "VM_Gen_Counter",
            ][..],
        ),
        (
            platform(2, DeviceBus::Mmio(vec![(0xe800_0000, 6)])),
            &["LNRO0005", "0xE8000000", "0x00000006", "QEMU0001"],
        ),
    ] {
        for (name, bytes) in walk(&platform) {
            let folder = tempfile::tempdir().unwrap();
            let (aml, dsl) = (folder.path().join("t.aml"), folder.path().join("t.dsl"));
            std::fs::write(&aml, &bytes).unwrap();
            let output = Command::new("iasl").arg("-d").arg(&aml).output().unwrap();
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(
                output.status.success() && !text.contains("Error") && !text.contains("Warning"),
                "{name}: {text}"
            );
            if name == "DSDT" {
                let source = std::fs::read_to_string(&dsl).unwrap();
                for word in expected {
                    assert!(source.contains(word), "{word} is not in {source}");
                }
                let again = folder.path().join("again");
                let output = Command::new("iasl")
                    .arg("-p")
                    .arg(&again)
                    .arg(&dsl)
                    .output()
                    .unwrap();
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                assert!(
                    text.contains("0 Errors, 0 Warnings"),
                    "{text}{}",
                    String::from_utf8_lossy(&output.stderr)
                );
            }
        }
    }
}

/// Four processors, two of which are there.
fn pluggable() -> Platform {
    Platform {
        topology: Topology::flat(4),
        ..platform(2, DeviceBus::Pci)
    }
}

/// The reference interpreter's view. All registers read as the byte it is told.
#[test]
fn the_acpi_interpreter_hears_of_buttons_and_slots() {
    if Command::new("acpiexec").arg("-v").output().is_err() {
        eprintln!("skipped: acpiexec (Debian package acpica-tools) is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let aml = folder.path().join("dsdt.aml");
    std::fs::write(&aml, find(&walk(&pluggable()), "DSDT")).unwrap();
    let heard = |registers: &str| {
        let output = Command::new("acpiexec")
            .args(["-fv", registers, "-b", "evaluate \\_SB.GED_._EVT 5"])
            .arg(&aml)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut heard = std::collections::BTreeSet::new();
        for line in text.lines().filter(|line| line.contains("Notify on [")) {
            let (name, value) = line.split_once("Notify on [").unwrap().1.split_once(']').unwrap();
            let value = value.split_once("Value ").unwrap().1.split(' ').next().unwrap();
            heard.insert(format!("{name} {value}"));
        }
        (heard, text)
    };
    for (registers, expected) in [
        ("0x00", vec![]),
        ("0x01", vec!["PWRB 0x80"]),
        ("0x02", vec!["SLPB 0x80"]),
        ("0x08", vec!["C003 0x01", "C003 0x03"]),
        ("0x10", vec!["VGEN 0x80"]),
        (
            "0x04",
            vec![
                "S002 0x01",
                "S002 0x03",
                "S010 0x01",
                "S010 0x03",
                "S018 0x01",
                "S018 0x03",
                "S026 0x01",
                "S026 0x03",
            ],
        ),
    ] {
        // Notifications are threads of their own there, and the last ones may not be heard before the end.
        let mut all = std::collections::BTreeSet::new();
        let mut text = String::new();
        for _ in 0..20 {
            let (more, output) = heard(registers);
            all.extend(more);
            text = output;
            if all.len() >= expected.len() {
                break;
            }
        }
        assert!(text.contains("No object was returned"), "{text}");
        assert!(all.iter().eq(&expected), "{all:?}: {text}");
    }
}
