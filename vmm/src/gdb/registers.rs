//! A vCPU's registers as gdb numbers them, in the order of `target.xml` (gdb manual, "Standard Target Features", i386).

use std::io;
use std::num::NonZeroUsize;

use gdbstub::arch::{Arch, RegId};
use kvm_bindings::{kvm_fpu, kvm_regs, kvm_segment, kvm_sregs};

use crate::kvm::debug::Debuggee;

/// x86-64 as gdb is told of it.
pub enum X86_64 {}

impl Arch for X86_64 {
    type Usize = u64;
    type Registers = Registers;
    type RegId = RegisterId;
    type BreakpointKind = usize;

    fn target_description_xml() -> Option<&'static str> {
        Some(include_str!("target.xml"))
    }
}

// The first register of each kind.
const RIP: usize = 16;
const EFLAGS: usize = 17;
const SELECTORS: usize = 18;
const STACK: usize = 24;
const FLOAT_CONTROL: usize = 32;
const XMM: usize = 40;
const MXCSR: usize = 56;
const SYSTEM: usize = 57;
/// How many there are.
pub const COUNT: usize = 65;

/// A register's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegisterId(pub usize);

impl RegId for RegisterId {
    fn from_raw_id(id: usize) -> Option<(Self, Option<NonZeroUsize>)> {
        (id < COUNT).then(|| (Self(id), NonZeroUsize::new(bytes(id))))
    }
}

/// Size of a register.
#[must_use]
pub fn bytes(id: usize) -> usize {
    match id {
        EFLAGS..STACK | FLOAT_CONTROL..XMM | MXCSR => 4,
        STACK..FLOAT_CONTROL => 10,
        XMM..MXCSR => 16,
        _ => 8,
    }
}

/// Which of KVM's sets a register is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Set {
    /// `KVM_SET_REGS`.
    General,
    /// `KVM_SET_SREGS`.
    System,
    /// `KVM_SET_FPU`.
    Float,
}

/// All registers of a vCPU.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Registers {
    general: kvm_regs,
    system: kvm_sregs,
    float: kvm_fpu,
}

impl gdbstub::arch::Registers for Registers {
    type ProgramCounter = u64;

    fn pc(&self) -> u64 {
        self.general.rip
    }

    fn gdb_serialize(&self, mut write_byte: impl FnMut(Option<u8>)) {
        for id in 0..COUNT {
            let value = self.get(id).to_le_bytes();
            value
                .iter()
                .take(bytes(id))
                .for_each(|byte| write_byte(Some(*byte)));
        }
    }

    fn gdb_deserialize(&mut self, mut values: &[u8]) -> Result<(), ()> {
        for id in 0..COUNT {
            let (value, rest) = values.split_at_checked(bytes(id)).ok_or(())?;
            values = rest;
            self.set(id, number(value));
        }
        Ok(())
    }
}

/// At most 16 bytes as a number.
#[must_use]
pub fn number(bytes: &[u8]) -> u128 {
    let bytes = bytes.iter().take(16).rev();
    bytes.fold(0, |number, byte| number << 8 | u128::from(*byte))
}

impl Registers {
    /// Reads them.
    pub fn read(vcpu: &dyn Debuggee) -> io::Result<Self> {
        Ok(Self {
            general: vcpu.general()?,
            system: vcpu.system()?,
            float: vcpu.float()?,
        })
    }

    /// Writes one of the sets back.
    pub fn write(&self, vcpu: &dyn Debuggee, set: Set) -> io::Result<()> {
        match set {
            Set::General => vcpu.set_general(&self.general),
            Set::System => vcpu.set_system(&self.system),
            Set::Float => vcpu.set_float(&self.float),
        }
    }

    /// The same with those of `other`, but for segments, which are more than their selectors.
    pub fn take_from(&mut self, other: &Self) {
        for id in (0..COUNT).filter(|id| !(SELECTORS..STACK).contains(id)) {
            self.set(id, other.get(id));
        }
    }

    /// A register's value; 0 for one that does not exist.
    #[must_use]
    pub fn get(&self, id: usize) -> u128 {
        let (general, system, float) = (&self.general, &self.system, &self.float);
        match id {
            EFLAGS => general.rflags.into(),
            SELECTORS..STACK => segments(system)
                .get(id - SELECTORS)
                .map_or(0, |segment| segment.selector.into()),
            STACK..FLOAT_CONTROL => float.fpr.get(id - STACK).map_or(0, |value| number(&value[..10])),
            FLOAT_CONTROL..XMM => float_control(float, id - FLOAT_CONTROL).into(),
            XMM..MXCSR => float.xmm.get(id - XMM).map_or(0, |value| number(value)),
            MXCSR => float.mxcsr.into(),
            _ => {
                let mut copy = self.clone();
                copy.place(id).map_or(0, |(place, _)| (*place).into())
            }
        }
    }

    /// The place of a register of 64 bits.
    fn place(&mut self, id: usize) -> Option<(&mut u64, Set)> {
        let (general, system) = (&mut self.general, &mut self.system);
        let system = match id.checked_sub(SYSTEM) {
            Some(0) => &mut system.fs.base,
            Some(1) => &mut system.gs.base,
            Some(2) => &mut system.cr0,
            Some(3) => &mut system.cr2,
            Some(4) => &mut system.cr3,
            Some(5) => &mut system.cr4,
            Some(6) => &mut system.cr8,
            Some(7) => &mut system.efer,
            _ => {
                let place = match id {
                    0 => &mut general.rax,
                    1 => &mut general.rbx,
                    2 => &mut general.rcx,
                    3 => &mut general.rdx,
                    4 => &mut general.rsi,
                    5 => &mut general.rdi,
                    6 => &mut general.rbp,
                    7 => &mut general.rsp,
                    8 => &mut general.r8,
                    9 => &mut general.r9,
                    10 => &mut general.r10,
                    11 => &mut general.r11,
                    12 => &mut general.r12,
                    13 => &mut general.r13,
                    14 => &mut general.r14,
                    15 => &mut general.r15,
                    RIP => &mut general.rip,
                    _ => return None,
                };
                return Some((place, Set::General));
            }
        };
        Some((system, Set::System))
    }

    /// Changes a register. Returns the set to write back; none for one that does not exist or cannot be changed by itself.
    pub fn set(&mut self, id: usize, value: u128) -> Option<Set> {
        match id {
            EFLAGS => {
                self.general.rflags = u64::from(value as u32);
                Some(Set::General)
            }
            SELECTORS..STACK => {
                if let Some(segment) = segments_mut(&mut self.system).into_iter().nth(id - SELECTORS) {
                    segment.selector = value as u16;
                }
                None
            }
            STACK..FLOAT_CONTROL => {
                let register = self.float.fpr.get_mut(id - STACK)?;
                register[..10].copy_from_slice(&value.to_le_bytes()[..10]);
                Some(Set::Float)
            }
            FLOAT_CONTROL..XMM => {
                set_float_control(&mut self.float, id - FLOAT_CONTROL, value as u32);
                Some(Set::Float)
            }
            XMM..MXCSR => {
                *self.float.xmm.get_mut(id - XMM)? = value.to_le_bytes();
                Some(Set::Float)
            }
            MXCSR => {
                self.float.mxcsr = value as u32;
                Some(Set::Float)
            }
            _ => {
                let (place, set) = self.place(id)?;
                *place = value as u64;
                Some(set)
            }
        }
    }
}

/// Segments in gdb's order.
fn segments(system: &kvm_sregs) -> [&kvm_segment; 6] {
    [
        &system.cs, &system.ss, &system.ds, &system.es, &system.fs, &system.gs,
    ]
}

fn segments_mut(system: &mut kvm_sregs) -> [&mut kvm_segment; 6] {
    [
        &mut system.cs,
        &mut system.ss,
        &mut system.ds,
        &mut system.es,
        &mut system.fs,
        &mut system.gs,
    ]
}

/// fctrl, fstat, ftag, fiseg, fioff, foseg, fooff, fop. Pointers have 48 bits: 32 and a "segment" of 16.
fn float_control(float: &kvm_fpu, index: usize) -> u32 {
    match index {
        0 => float.fcw.into(),
        1 => float.fsw.into(),
        2 => tag_word(float),
        3 => u32::from((float.last_ip >> 32) as u16),
        4 => float.last_ip as u32,
        5 => u32::from((float.last_dp >> 32) as u16),
        6 => float.last_dp as u32,
        _ => float.last_opcode.into(),
    }
}

fn set_float_control(float: &mut kvm_fpu, index: usize, value: u32) {
    let low = |pointer: u64| pointer & !0xffff_ffff | u64::from(value);
    let high = |pointer: u64| pointer & 0xffff_ffff | u64::from(value as u16) << 32;
    match index {
        0 => float.fcw = value as u16,
        1 => float.fsw = value as u16,
        // One bit a register: whether it is in use.
        2 => {
            float.ftwx = (0..8).fold(0, |tags, bit| {
                tags | u8::from(value >> (2 * bit) & EMPTY != EMPTY) << bit
            })
        }
        3 => float.last_ip = high(float.last_ip),
        4 => float.last_ip = low(float.last_ip),
        5 => float.last_dp = high(float.last_dp),
        6 => float.last_dp = low(float.last_dp),
        _ => float.last_opcode = value as u16,
    }
}

/// The tag of a register that is not in use.
const EMPTY: u32 = 3;

/// The tag word as before FXSAVE, of two bits a register: valid, zero, special, empty (SDM vol. 1 §8.1.7 and §10.5.1.1).
fn tag_word(float: &kvm_fpu) -> u32 {
    let top = usize::from(float.fsw >> 11 & 7);
    (0..8).fold(0, |word, register| {
        let value = float
            .fpr
            .get((register + 8 - top) % 8)
            .map_or(0, |value| number(&value[..10]));
        let (exponent, mantissa) = (value >> 64 & 0x7fff, value as u64);
        let tag = match (float.ftwx >> register & 1, exponent, mantissa) {
            (0, _, _) => EMPTY,
            (_, 0, 0) => 1,
            (_, 1..0x7fff, 0x8000_0000_0000_0000..) => 0,
            _ => 2,
        };
        word | tag << (2 * register)
    })
}

#[cfg(test)]
#[path = "registers_tests.rs"]
mod tests;
