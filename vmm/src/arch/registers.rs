//! Registers, segments and page tables at the entry of the kernel.
//!
//! 64-bit protocol (boot.rst §1.15): long mode, flat segments at selectors 0x10 and 0x18, RSI at the zero page,
//! interrupts off, kernel, zero page and command line identity-mapped. PVH (Xen, misc/pvh.pandoc): 32-bit protected
//! mode without paging, flat segments, EBX at the start info.

use kvm_bindings::{kvm_dtable, kvm_fpu, kvm_regs, kvm_segment, kvm_sregs};
use kvm_ioctls::VcpuFd;

use super::layout;
use crate::config::BootProtocol;
use crate::memory::{self, MemoryError, Ram};

const CR0_PE: u64 = 1 << 0;
const CR0_ET: u64 = 1 << 4;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
/// RFLAGS has one bit that is always set (SDM vol. 1 §3.4.3).
const RFLAGS_RESERVED: u64 = 1 << 1;

const PTE_PRESENT: u64 = 1 << 0;
const PTE_WRITABLE: u64 = 1 << 1;
const PDE_LARGE: u64 = 1 << 7;
/// Page directories of 1 GiB each.
const DIRECTORIES: u64 = 4;

/// Segment types (SDM vol. 3 §3.4.5.1): accessed read/execute code, accessed read/write data, busy 32/64-bit TSS.
const TYPE_CODE: u8 = 11;
const TYPE_DATA: u8 = 3;
const TYPE_TSS: u8 = 11;

fn segment(index: u16, kind: u8, long: bool) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector: index * 8,
        type_: kind,
        present: 1,
        dpl: 0,
        // A 64-bit code segment must not claim to be a 32-bit one too.
        db: u8::from(!long),
        s: 1,
        l: u8::from(long),
        g: 1,
        ..Default::default()
    }
}

fn task(index: u16) -> kvm_segment {
    // 0x67 is the last byte of a TSS; KVM wants the busy type and byte granularity.
    kvm_segment {
        selector: index * 8,
        type_: TYPE_TSS,
        present: 1,
        limit: 0x67,
        ..Default::default()
    }
}

/// A segment as the descriptor table has it (SDM vol. 3 §3.4.5).
fn descriptor(segment: &kvm_segment) -> u64 {
    let limit = u64::from(if segment.g == 1 {
        segment.limit >> 12
    } else {
        segment.limit
    });
    let access = u64::from(segment.type_)
        | u64::from(segment.s) << 4
        | u64::from(segment.dpl) << 5
        | u64::from(segment.present) << 7;
    let flags = u64::from(segment.l) << 1 | u64::from(segment.db) << 2 | u64::from(segment.g) << 3;
    (limit & 0xffff)
        | (segment.base & 0xff_ffff) << 16
        | access << 40
        | (limit >> 16 & 0xf) << 48
        | flags << 52
        | (segment.base >> 24 & 0xff) << 56
}

/// The flat segments of a protocol: code, data, task.
fn segments(protocol: BootProtocol) -> [kvm_segment; 3] {
    // Selectors 0x10 and 0x18 are `__BOOT_CS` and `__BOOT_DS`, which the 64-bit protocol prescribes.
    let long = protocol == BootProtocol::Linux64;
    [segment(2, TYPE_CODE, long), segment(3, TYPE_DATA, false), task(4)]
}

/// Writes descriptor table and page tables to guest memory.
pub fn write_tables(memory: &Ram, protocol: BootProtocol) -> Result<(), MemoryError> {
    let mut table = [0; 5];
    for segment in segments(protocol) {
        table[usize::from(segment.selector / 8)] = descriptor(&segment);
    }
    write_words(memory, layout::GDT, table)?;
    if protocol == BootProtocol::Pvh {
        return Ok(());
    }
    let flags = PTE_PRESENT | PTE_WRITABLE;
    let pdpt = layout::PAGE_TABLES + layout::PAGE;
    let directories = pdpt + layout::PAGE;
    write_words(memory, layout::PAGE_TABLES, [pdpt | flags])?;
    write_words(
        memory,
        pdpt,
        (0..DIRECTORIES).map(|n| (directories + n * layout::PAGE) | flags),
    )?;
    write_words(
        memory,
        directories,
        (0..DIRECTORIES * 512).map(|n| n << 21 | flags | PDE_LARGE),
    )
}

fn write_words(memory: &Ram, address: u64, words: impl IntoIterator<Item = u64>) -> Result<(), MemoryError> {
    let bytes: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
    memory::write(memory, address, &bytes)
}

/// Sets the boot processor's registers for the entry of a kernel.
pub fn set_boot_state(vcpu: &VcpuFd, protocol: BootProtocol, entry: u64) -> Result<(), kvm_ioctls::Error> {
    let mut sregs = vcpu.get_sregs()?;
    fill_sregs(&mut sregs, protocol);
    vcpu.set_sregs(&sregs)?;
    let mut regs = kvm_regs {
        rip: entry,
        rflags: RFLAGS_RESERVED,
        ..Default::default()
    };
    match protocol {
        BootProtocol::Linux64 => {
            regs.rsi = layout::ZERO_PAGE;
            regs.rsp = layout::BOOT_STACK;
            regs.rbp = layout::BOOT_STACK;
        }
        BootProtocol::Pvh => regs.rbx = layout::PVH_START_INFO,
    }
    vcpu.set_regs(&regs)?;
    // Power-up values (SDM vol. 3 table 10-1): all exceptions masked, 64-bit precision.
    vcpu.set_fpu(&kvm_fpu {
        fcw: 0x37f,
        mxcsr: 0x1f80,
        ..Default::default()
    })
}

fn fill_sregs(sregs: &mut kvm_sregs, protocol: BootProtocol) {
    let [code, data, task] = segments(protocol);
    sregs.cs = code;
    for register in [
        &mut sregs.ds,
        &mut sregs.es,
        &mut sregs.fs,
        &mut sregs.gs,
        &mut sregs.ss,
    ] {
        *register = data;
    }
    sregs.tr = task;
    sregs.gdt = kvm_dtable {
        base: layout::GDT,
        limit: 5 * 8 - 1,
        ..Default::default()
    };
    sregs.idt = kvm_dtable {
        base: 0,
        limit: 0,
        ..Default::default()
    };
    match protocol {
        BootProtocol::Linux64 => {
            sregs.cr0 = CR0_PE | CR0_ET | CR0_PG;
            sregs.cr3 = layout::PAGE_TABLES;
            sregs.cr4 = CR4_PAE;
            sregs.efer = EFER_LME | EFER_LMA;
        }
        BootProtocol::Pvh => {
            sregs.cr0 = CR0_PE | CR0_ET;
            sregs.cr4 = 0;
            sregs.efer = 0;
        }
    }
}

#[cfg(test)]
#[path = "registers_tests.rs"]
mod tests;
