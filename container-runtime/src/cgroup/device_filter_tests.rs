//! Device rules, in cgroup v1's words and as a program that a small interpreter and the kernel run.

#![allow(clippy::unwrap_used)]

use super::*;

const READ: u32 = 2;
const WRITE: u32 = 4;
const MKNOD: u32 = 1;

/// Whether the program allows an access.
fn allows(rules: &[DeviceRule], kind: u32, access: u32, major: u32, minor: u32) -> bool {
    let program = compile(rules);
    let context = [access << 16 | kind, major, minor];
    let mut registers = [0_u64; 11];
    let mut at = 0_i64;
    loop {
        let op = program[at as usize];
        at += 1;
        let (destination, source) = (usize::from(op.registers & 15), usize::from(op.registers >> 4));
        match op.code {
            LOAD_WORD => registers[destination] = u64::from(context[op.offset as usize / 4]),
            MOVE_REGISTER => registers[destination] = registers[source],
            MOVE_IMMEDIATE => registers[destination] = op.immediate as u64,
            AND_IMMEDIATE_32 => {
                registers[destination] = u64::from(registers[destination] as u32 & op.immediate as u32)
            }
            SHIFT_RIGHT_32 => {
                registers[destination] = u64::from(registers[destination] as u32 >> op.immediate)
            }
            JUMP_NOT_EQUAL if registers[destination] != op.immediate as u64 => at += i64::from(op.offset),
            JUMP_NOT_EQUAL => {}
            EXIT => return registers[0] == 1,
            other => panic!("opcode {other:#x}"),
        }
    }
}

#[test]
fn rules_read_as_cgroup_v1_writes_them() {
    assert_eq!(DeviceRule::character(1, Some(3)).to_string(), "c 1:3 rwm");
    assert_eq!(DeviceRule::character(136, None).to_string(), "c 136:* rwm");
    assert_eq!(DEFAULT_RULES[1].to_string(), "b *:* m");
}

#[test]
fn default_rules_allow_terminals_and_null_but_no_disk() {
    let (block, character) = (1, 2);
    assert!(allows(DEFAULT_RULES, character, READ | WRITE, 1, 3));
    assert!(allows(DEFAULT_RULES, character, READ, 136, 77));
    assert!(allows(DEFAULT_RULES, block, MKNOD, 8, 0));
    assert!(!allows(DEFAULT_RULES, block, READ, 8, 0));
    assert!(!allows(DEFAULT_RULES, block, MKNOD | READ, 8, 0));
    assert!(!allows(DEFAULT_RULES, character, READ, 1, 1));
    assert!(!allows(&[], character, READ, 1, 3));
}

#[test]
fn the_last_rule_that_matches_decides() {
    let everything = DeviceRule {
        kind: DeviceKind::All,
        major: None,
        minor: None,
        ..DeviceRule::character(0, None)
    };
    let not_kmem = DeviceRule {
        allow: false,
        ..DeviceRule::character(1, Some(2))
    };
    assert!(allows(&[everything, not_kmem], 2, READ, 1, 3));
    assert!(!allows(&[everything, not_kmem], 2, READ, 1, 2));
    assert!(allows(&[not_kmem, everything], 2, READ, 1, 2));
    let read_only = DeviceRule {
        write: false,
        mknod: false,
        ..DeviceRule::character(10, Some(1))
    };
    assert!(allows(&[read_only], 2, READ, 10, 1));
    assert!(!allows(&[read_only], 2, READ | WRITE, 10, 1));
}

#[test]
fn the_kernel_takes_the_program() {
    let Some(hierarchy) = super::super::discover()
        .unwrap()
        .into_iter()
        .find(|h| h.version == super::super::Version::V2)
    else {
        eprintln!("skipped: this host has no unified hierarchy");
        return;
    };
    let group = hierarchy
        .mount
        .join(format!("virga-filter-{}", std::process::id()));
    std::fs::create_dir(&group).unwrap();
    let attached = attach(&group, DEFAULT_RULES);
    std::fs::remove_dir(&group).unwrap();
    attached.unwrap();
}
