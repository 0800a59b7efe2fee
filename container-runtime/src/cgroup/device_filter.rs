//! Which devices a container may open: the rules, and for cgroup v2 the small BPF program that enforces them.
//!
//! cgroup v1 has files for this; v2 asks a program of type `BPF_PROG_TYPE_CGROUP_DEVICE` at every open and mknod
//! (cgroup-v2.rst, "Device controller"). The context is `struct bpf_cgroup_dev_ctx { u32 access_type; u32 major; u32 minor; }`,
//! `access_type` being `access << 16 | kind`.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use crate::sys::{done, owned};
use crate::{Error, Result};

/// Kinds of device nodes, with the numbers of linux/bpf.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeviceKind {
    /// Block devices.
    Block = 1,
    /// Character devices.
    Character = 2,
    /// Both.
    All = 0,
}

/// One rule; `None` as a number means any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeviceRule {
    pub(crate) kind: DeviceKind,
    pub(crate) major: Option<u32>,
    pub(crate) minor: Option<u32>,
    pub(crate) read: bool,
    pub(crate) write: bool,
    pub(crate) mknod: bool,
    pub(crate) allow: bool,
}

impl DeviceRule {
    /// Reading and writing of a character device.
    pub(crate) const fn character(major: u32, minor: Option<u32>) -> Self {
        Self {
            kind: DeviceKind::Character,
            major: Some(major),
            minor,
            read: true,
            write: true,
            mknod: true,
            allow: true,
        }
    }

    /// Making any node, without opening it: harmless, and what unpacking an archive does.
    const fn making(kind: DeviceKind) -> Self {
        Self {
            kind,
            major: None,
            minor: None,
            read: false,
            write: false,
            mknod: true,
            allow: true,
        }
    }

    /// `access` bits of linux/bpf.h: mknod 1, read 2, write 4.
    fn access(self) -> u32 {
        u32::from(self.mknod) | u32::from(self.read) << 1 | u32::from(self.write) << 2
    }
}

/// Devices every container has: null, zero, full, random, urandom, tty, console, ptmx and terminals.
pub(crate) const DEFAULT_RULES: &[DeviceRule] = &[
    DeviceRule::making(DeviceKind::Character),
    DeviceRule::making(DeviceKind::Block),
    DeviceRule::character(1, Some(3)),
    DeviceRule::character(1, Some(5)),
    DeviceRule::character(1, Some(7)),
    DeviceRule::character(1, Some(8)),
    DeviceRule::character(1, Some(9)),
    DeviceRule::character(5, Some(0)),
    DeviceRule::character(5, Some(1)),
    DeviceRule::character(5, Some(2)),
    DeviceRule::character(136, None),
];

/// As cgroup v1 writes it: `c 1:3 rwm`.
impl fmt::Display for DeviceRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |n: Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
        let kind = match self.kind {
            DeviceKind::All => 'a',
            DeviceKind::Block => 'b',
            DeviceKind::Character => 'c',
        };
        write!(f, "{kind} {}:{} ", number(self.major), number(self.minor))?;
        for (letter, wanted) in [('r', self.read), ('w', self.write), ('m', self.mknod)] {
            if wanted {
                write!(f, "{letter}")?;
            }
        }
        Ok(())
    }
}

/// `struct bpf_insn`: opcode, destination and source register, jump offset, immediate.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

// Opcodes of the BPF instruction set (RFC 9669).
const LOAD_WORD: u8 = 0x61;
const MOVE_REGISTER: u8 = 0xbf;
const MOVE_IMMEDIATE: u8 = 0xb7;
const AND_IMMEDIATE_32: u8 = 0x54;
const SHIFT_RIGHT_32: u8 = 0x74;
const JUMP_NOT_EQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;

const fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction {
        code,
        registers: destination | source << 4,
        offset,
        immediate,
    }
}

/// The program: r2 kind, r3 access, r4 major, r5 minor; the last rule that matches decides, so they are tried backwards.
pub(super) fn compile(rules: &[DeviceRule]) -> Vec<Instruction> {
    let mut program = vec![
        instruction(LOAD_WORD, 2, 1, 0, 0),
        instruction(MOVE_REGISTER, 3, 2, 0, 0),
        instruction(AND_IMMEDIATE_32, 2, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT_32, 3, 0, 0, 16),
        instruction(LOAD_WORD, 4, 1, 4, 0),
        instruction(LOAD_WORD, 5, 1, 8, 0),
    ];
    for rule in rules.iter().rev() {
        let mut tests = Vec::new();
        if rule.kind != DeviceKind::All {
            tests.push(instruction(JUMP_NOT_EQUAL, 2, 0, 0, rule.kind as i32));
        }
        let outside = !rule.access() & 7;
        if outside != 0 {
            // The wanted access must lie within the rule's: nothing of it may remain outside.
            tests.push(instruction(MOVE_REGISTER, 6, 3, 0, 0));
            tests.push(instruction(AND_IMMEDIATE_32, 6, 0, 0, outside as i32));
            tests.push(instruction(JUMP_NOT_EQUAL, 6, 0, 0, 0));
        }
        if let Some(major) = rule.major {
            tests.push(instruction(JUMP_NOT_EQUAL, 4, 0, 0, major as i32));
        }
        if let Some(minor) = rule.minor {
            tests.push(instruction(JUMP_NOT_EQUAL, 5, 0, 0, minor as i32));
        }
        let verdict = 2;
        let total = tests.len();
        for (at, test) in tests.iter_mut().enumerate() {
            if test.code == JUMP_NOT_EQUAL {
                test.offset = (total - at - 1 + verdict) as i16;
            }
        }
        program.extend(tests);
        program.push(instruction(MOVE_IMMEDIATE, 0, 0, 0, i32::from(rule.allow)));
        program.push(instruction(EXIT, 0, 0, 0, 0));
    }
    program.push(instruction(MOVE_IMMEDIATE, 0, 0, 0, 0));
    program.push(instruction(EXIT, 0, 0, 0, 0));
    program
}

const BPF_PROG_LOAD: i32 = 5;
const BPF_PROG_ATTACH: i32 = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
/// Programs of nested groups are all asked; any may refuse.
const BPF_F_ALLOW_MULTI: u32 = 2;

/// The head of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
struct LoadAttributes {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
}

/// The head of `union bpf_attr` for `BPF_PROG_ATTACH`.
#[repr(C)]
struct AttachAttributes {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// Loads the program and attaches it to a group of the unified hierarchy.
pub(super) fn attach(group: &Path, rules: &[DeviceRule]) -> Result<()> {
    let program = compile(rules);
    let load = || -> io::Result<()> {
        let directory = File::open(group)?;
        let attributes = LoadAttributes {
            program_type: BPF_PROG_TYPE_CGROUP_DEVICE,
            instruction_count: program.len() as u32,
            instructions: program.as_ptr() as u64,
            license: c"Apache-2.0".as_ptr() as u64,
        };
        // SAFETY: the attributes and what they point to live until the call returns, the size is theirs.
        let loaded = owned(unsafe {
            libc::syscall(
                libc::SYS_bpf,
                BPF_PROG_LOAD,
                std::ptr::from_ref(&attributes),
                size_of::<LoadAttributes>(),
            )
        })?;
        let attributes = AttachAttributes {
            target: directory.as_raw_fd() as u32,
            program: loaded.as_raw_fd() as u32,
            kind: BPF_CGROUP_DEVICE,
            flags: BPF_F_ALLOW_MULTI,
        };
        // SAFETY: as above; both descriptors are open.
        done(unsafe {
            libc::syscall(
                libc::SYS_bpf,
                BPF_PROG_ATTACH,
                std::ptr::from_ref(&attributes),
                size_of::<AttachAttributes>(),
            )
        })
    };
    load().map_err(|source| Error::system(format!("attach the device filter to {}", group.display()), source))
}

#[cfg(test)]
#[path = "device_filter_tests.rs"]
mod tests;
