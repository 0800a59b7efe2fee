//! From rules to classic BPF.
//!
//! The program looks at `struct seccomp_data { int nr; u32 arch; u64 instruction_pointer; u64 args[6]; }`. It is a plain list of
//! comparisons: for calls that a filter always allows, the kernel finds that out once and then no longer runs it
//! (`SECCOMP_ARCH_NATIVE` action cache, Linux 5.11).

use libc::{BPF_ABS, BPF_ALU, BPF_AND, BPF_JEQ, BPF_JGE, BPF_JGT, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W};

use super::{Program, syscalls};

/// `AUDIT_ARCH_X86_64` and `AUDIT_ARCH_I386` of linux/audit.h.
const ARCH_X86_64: u32 = 0xc000_003e;
const ARCH_I386: u32 = 0x4000_0003;
/// Numbers from here on are x32's.
const X32_BIT: u32 = 0x4000_0000;
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const OFFSET_ARGS: u32 = 16;
/// BPF_MAXINSNS: longer programs are refused.
const MAX_INSTRUCTIONS: usize = 4096;

/// How an argument is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    NotEqual,
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
    /// Equal after the argument has been masked with this.
    Masked(u64),
}

/// A condition on one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Comparison {
    /// 0 to 5.
    pub(crate) argument: u32,
    pub(crate) operator: Operator,
    pub(crate) value: u64,
}

/// What happens to a system call if all conditions hold; the first rule that matches decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) name: String,
    pub(crate) conditions: Vec<Comparison>,
    /// A `SECCOMP_RET_*` value.
    pub(crate) action: u32,
}

/// Rules, and what happens to calls that no rule names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) rules: Vec<Rule>,
    pub(crate) default: u32,
    /// What happens to calls of another architecture.
    pub(crate) foreign: u32,
    /// Whether 32-bit programs may run, under the same rules.
    pub(crate) compat: bool,
}

fn statement(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    }
}

fn jump(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter {
        code: (BPF_JMP | code | BPF_K) as u16,
        jt,
        jf,
        k,
    }
}

fn load(offset: u32) -> libc::sock_filter {
    statement(BPF_LD | BPF_W | BPF_ABS, offset)
}

fn answer(action: u32) -> libc::sock_filter {
    statement(BPF_RET | BPF_K, action)
}

impl Filter {
    /// The program; `None` if it is longer than the kernel takes.
    pub(crate) fn compile(&self) -> Option<Program> {
        let native = self.section(|(native, _)| native, true);
        let compat = self.section(|(_, compat)| compat, false);
        let mut program = vec![load(OFFSET_ARCH)];
        // The sections may be longer than the 255 a conditional jump reaches, hence the unconditional ones.
        let always = |k: usize| statement(BPF_JMP, k as u32);
        program.push(jump(BPF_JEQ, ARCH_X86_64, 0, 1));
        program.push(always(if self.compat { 3 } else { 1 }));
        if self.compat {
            program.push(jump(BPF_JEQ, ARCH_I386, 0, 1));
            program.push(always(1 + native.len()));
        }
        program.push(answer(self.foreign));
        program.extend(native);
        if self.compat {
            program.extend(compat);
        }
        (program.len() <= MAX_INSTRUCTIONS).then_some(program)
    }

    fn section(&self, pick: impl Fn((Option<u32>, Option<u32>)) -> Option<u32>, native: bool) -> Program {
        let mut program = vec![load(OFFSET_NUMBER)];
        if native {
            program.push(jump(BPF_JGE, X32_BIT, 0, 1));
            program.push(answer(libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32));
        }
        for rule in &self.rules {
            // A call that this ABI does not have cannot be made.
            let Some(number) = syscalls::by_name(&rule.name).and_then(&pick) else {
                continue;
            };
            let block = block(rule);
            program.push(jump(BPF_JEQ, number, 0, block.len() as u8));
            program.extend(block);
        }
        program.push(answer(self.default));
        program
    }
}

/// The conditions of a rule and its action. Ends, where conditions have replaced the accumulator, by loading the number again for
/// the rules that follow.
fn block(rule: &Rule) -> Program {
    let tests: Vec<Program> = rule.conditions.iter().map(comparison).collect();
    // From a test's last instruction on: the remaining tests and the answer.
    let mut program = Program::new();
    let mut left: usize = tests.iter().map(Vec::len).sum::<usize>() + 1;
    for test in tests {
        let length = test.len();
        for (at, mut op) in test.into_iter().enumerate() {
            let behind = length - at - 1;
            if op.code & 0x07 == BPF_JMP as u16 {
                let resolve = |mark: u8| match mark {
                    FAIL => (left - at - 1) as u8,
                    PASS => behind as u8,
                    near => near,
                };
                (op.jt, op.jf) = (resolve(op.jt), resolve(op.jf));
            }
            program.push(op);
        }
        left -= length;
    }
    program.push(answer(rule.action));
    if !rule.conditions.is_empty() {
        program.push(load(OFFSET_NUMBER));
    }
    program
}

/// Marks for jump targets that are known only when the block is whole.
const FAIL: u8 = 255;
const PASS: u8 = 254;

/// One 64-bit comparison from two 32-bit ones.
fn comparison(test: &Comparison) -> Program {
    let low_offset = OFFSET_ARGS + 8 * test.argument;
    let (low, high) = (load(low_offset), load(low_offset + 4));
    let (value_low, value_high) = (test.value as u32, (test.value >> 32) as u32);
    match test.operator {
        Operator::Equal => vec![
            high,
            jump(BPF_JEQ, value_high, 0, FAIL),
            low,
            jump(BPF_JEQ, value_low, 0, FAIL),
        ],
        Operator::NotEqual => vec![
            high,
            jump(BPF_JEQ, value_high, 0, PASS),
            low,
            jump(BPF_JEQ, value_low, FAIL, 0),
        ],
        Operator::Masked(mask) => vec![
            high,
            statement(BPF_ALU | BPF_AND | BPF_K, (mask >> 32) as u32),
            jump(BPF_JEQ, value_high, 0, FAIL),
            low,
            statement(BPF_ALU | BPF_AND | BPF_K, mask as u32),
            jump(BPF_JEQ, value_low, 0, FAIL),
        ],
        Operator::Greater => vec![
            high,
            jump(BPF_JGT, value_high, PASS, 0),
            jump(BPF_JEQ, value_high, 0, FAIL),
            low,
            jump(BPF_JGT, value_low, 0, FAIL),
        ],
        Operator::GreaterOrEqual => vec![
            high,
            jump(BPF_JGT, value_high, PASS, 0),
            jump(BPF_JEQ, value_high, 0, FAIL),
            low,
            jump(BPF_JGE, value_low, 0, FAIL),
        ],
        Operator::Less => vec![
            high,
            jump(BPF_JGT, value_high, FAIL, 0),
            jump(BPF_JEQ, value_high, 0, PASS),
            low,
            jump(BPF_JGE, value_low, FAIL, 0),
        ],
        Operator::LessOrEqual => vec![
            high,
            jump(BPF_JGT, value_high, FAIL, 0),
            jump(BPF_JEQ, value_high, 0, PASS),
            low,
            jump(BPF_JGT, value_low, FAIL, 0),
        ],
    }
}
