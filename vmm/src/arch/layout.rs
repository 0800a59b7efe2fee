//! Where things are in the guest's physical address space, on x86-64.
//!
//! ```text
//!          0  boot structures (zero page, command line, page tables, GDT), free for the kernel once it has read them
//!    0xa0000  nothing
//!    0xe0000  ACPI tables, reserved
//!    0xf0000  SMBIOS tables, reserved
//!    0xf8000  VM generation id, reserved
//!   0x100000  RAM: kernel upwards, initrd downwards from the top
//! 0xc0000000  32-bit PCI window
//! 0xe0000000  PCI configuration space (ECAM), one bus
//! 0xe8000000  virtio-mmio devices
//! 0xfec00000  I/O APIC    0xfee00000  local APICs    0xfffbc000  pages that KVM needs on Intel
//! 4 GiB       the rest of RAM, memory that is plugged later, the 64-bit PCI window, persistent memory
//! ```

/// Size of a page.
pub const PAGE: u64 = 4096;

/// Flat segments for the entry of the kernel.
pub const GDT: u64 = 0x500;
/// `hvm_start_info` of the PVH protocol, its module and its memory map.
pub const PVH_START_INFO: u64 = 0x6000;
/// `boot_params` of the Linux protocol, the "zero page".
pub const ZERO_PAGE: u64 = 0x7000;
/// Stack pointer at entry; kernels bring their own stack, payloads may use this one.
pub const BOOT_STACK: u64 = 0x8ff0;
/// Page tables: PML4, one PDPT and four PDs identity-map 4 GiB with 2 MiB pages.
pub const PAGE_TABLES: u64 = 0x9000;
/// Kernel command line.
pub const CMDLINE: u64 = 0x20000;
/// End of the low RAM that the memory map offers; above it a PC has its extended BIOS data area.
pub const LOW_RAM_END: u64 = 0x9fc00;
/// ACPI tables start here with the RSDP. Kernels without a pointer to it search this area (ACPI 6.5 §5.2.5.1).
pub const ACPI_TABLES: u64 = 0xe0000;
/// SMBIOS tables, found by a search from here on (DSP0134 §5.2).
pub const SMBIOS: u64 = 0xf0000;
/// The VM generation id, alone in its page.
pub const GENERATION_ID: u64 = 0xf8000;
/// First address of main RAM.
pub const HIGH_RAM: u64 = 0x10_0000;

/// First address after the RAM below 4 GiB, and of the 32-bit PCI window.
pub const HOLE_START: u64 = 0xc000_0000;
/// The 32-bit PCI window.
pub const PCI_WINDOW_32: (u64, u64) = (HOLE_START, 0x2000_0000);
/// ECAM of bus 0: 32 slots of 8 functions of 4 KiB.
pub const ECAM: (u64, u64) = (0xe000_0000, 0x10_0000);
/// virtio-mmio devices, one page each.
pub const VIRTIO_MMIO: u64 = 0xe800_0000;
/// I/O APIC, where KVM has it.
pub const IO_APIC: u32 = 0xfec0_0000;
/// Local APICs.
pub const LOCAL_APIC: u32 = 0xfee0_0000;
/// One page with identity-mapped page tables for real mode, used by KVM on Intel (KVM API §4.41).
pub const KVM_IDENTITY_MAP: u64 = 0xfffb_c000;
/// Three pages for the task state segment of real mode, used by KVM on Intel (KVM API §4.39).
pub const KVM_TSS: u64 = 0xfffb_d000;
/// First address above 4 GiB.
pub const FOUR_GIB: u64 = 1 << 32;
/// Size of the 64-bit PCI window.
pub const PCI_WINDOW_64_SIZE: u64 = 64 << 30;

/// Linux maps no more bits of addresses with page tables of four levels.
const LINUX_ADDRESS_BITS: u32 = 46;

/// Data port of the first serial port; its interrupt is [`COM1_IRQ`].
pub const COM1_PORT: u16 = 0x3f8;
/// Interrupt of the first serial port.
pub const COM1_IRQ: u32 = 4;
/// Interrupt of the ACPI generic event device.
pub const GED_IRQ: u32 = 5;
/// Interrupts of virtio-mmio devices: what is left of the I/O APIC's 24 pins.
pub const MMIO_IRQS: std::ops::Range<u32> = 6..24;
/// Number of pins of the I/O APIC; message-signalled interrupts are numbered from here on.
pub const IO_APIC_PINS: u32 = 24;
/// ACPI sleep control register, sleep status register, reset register, and the generic event device's selector.
pub const ACPI_PORTS: u16 = 0x600;
/// Registers by which PCI devices come and go.
pub const SLOT_PORTS: u16 = 0x610;
/// Registers by which processors come and go.
pub const PROCESSOR_PORTS: u16 = 0x620;

/// The RAM ranges of a guest with this much memory: start and length.
#[must_use]
pub fn ram_ranges(memory_bytes: u64) -> Vec<(u64, u64)> {
    if memory_bytes <= HOLE_START {
        vec![(0, memory_bytes)]
    } else {
        vec![(0, HOLE_START), (FOUR_GIB, memory_bytes - HOLE_START)]
    }
}

/// Parts of RAM that belong to nodes of these sizes, which come one after the other: node, start and length.
#[must_use]
pub fn node_ranges(memory_bytes: u64, sizes: &[u64]) -> Vec<(usize, u64, u64)> {
    let mut ranges = Vec::new();
    let mut nodes = sizes.iter().copied().enumerate();
    let mut current = nodes.next();
    for (mut start, mut len) in ram_ranges(memory_bytes) {
        while let Some((node, left)) = current
            && len > 0
        {
            let here = left.min(len);
            if here > 0 {
                ranges.push((node, start, here));
            }
            (start, len) = (start + here, len - here);
            current = match left > here {
                true => Some((node, left - here)),
                false => nodes.next(),
            };
        }
    }
    ranges
}

/// How many bits the host's processor has for physical addresses, which the guest sees as its own (SDM vol. 2, CPUID leaf
/// 0x8000_0008).
#[must_use]
pub fn address_bits() -> u32 {
    std::arch::x86_64::__cpuid(0x8000_0008).eax & 0xff
}

/// First address after all that a guest can use with so many bits.
#[must_use]
pub fn addresses_end(bits: u32) -> u64 {
    1 << bits.min(LINUX_ADDRESS_BITS)
}

/// First address after all memory, at the start and to plug.
#[must_use]
pub fn memory_end(memory_bytes: u64, hotplug_bytes: u64) -> u64 {
    hotplug_region(memory_bytes, hotplug_bytes)
        .map_or_else(|| ram_end(memory_bytes), |(start, len)| start + len)
}

fn ram_end(memory_bytes: u64) -> u64 {
    ram_ranges(memory_bytes)
        .last()
        .map_or(0, |(start, len)| start + len)
}

/// The region above RAM in which memory is plugged, if there is to be one: start and length. It starts where the
/// greatest memory block of Linux can (2 GiB), and ends at a multiple of what the smallest needs.
#[must_use]
pub fn hotplug_region(memory_bytes: u64, hotplug_bytes: u64) -> Option<(u64, u64)> {
    let start = ram_end(memory_bytes).max(FOUR_GIB).next_multiple_of(2 << 30);
    (hotplug_bytes > 0).then_some((start, hotplug_bytes))
}

/// The 64-bit PCI window of a guest with this much memory, at the start and to plug: start and length. It starts at a
/// multiple of its size's share of 1 GiB so that large BARs fit without holes.
#[must_use]
pub fn pci_window_64(memory_bytes: u64, hotplug_bytes: u64) -> (u64, u64) {
    let end = memory_end(memory_bytes, hotplug_bytes);
    (end.max(FOUR_GIB).next_multiple_of(1 << 30), PCI_WINDOW_64_SIZE)
}

/// Where persistent memory devices start: after the 64-bit PCI window.
#[must_use]
pub fn pmem_start(memory_bytes: u64, hotplug_bytes: u64) -> u64 {
    let (start, len) = pci_window_64(memory_bytes, hotplug_bytes);
    start + len
}

/// Kind of a range in the memory map that the guest gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum RangeKind {
    /// Usable RAM; the number is that of e820 and of PVH alike.
    Ram = 1,
    /// Not to be touched.
    Reserved = 2,
}

/// The memory map that the guest gets (e820), in ascending order.
#[must_use]
pub fn memory_map(memory_bytes: u64) -> Vec<(u64, u64, RangeKind)> {
    let mut map = vec![
        (0, LOW_RAM_END, RangeKind::Ram),
        (LOW_RAM_END, HIGH_RAM - LOW_RAM_END, RangeKind::Reserved),
    ];
    for (start, len) in ram_ranges(memory_bytes) {
        let first = start.max(HIGH_RAM);
        map.push((first, start + len - first, RangeKind::Ram));
    }
    // Linux uses the ECAM only when a memory map or a motherboard resource reserves it.
    map.push((ECAM.0, ECAM.1, RangeKind::Reserved));
    map.sort_by_key(|(start, ..)| *start);
    map
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
