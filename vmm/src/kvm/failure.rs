//! What a person needs to understand why a vCPU stopped: its registers and the instruction it was at.

use kvm_bindings::{KVM_INTERNAL_ERROR_EMULATION, kvm_run};
use kvm_ioctls::VcpuFd;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use crate::memory::Ram;

/// The longest x86 instruction.
const MAX_INSTRUCTION_BYTES: usize = 15;
/// `KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES`.
const HAS_INSTRUCTION_BYTES: u64 = 1;

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Registers and the bytes at the instruction pointer, on a few lines.
#[must_use]
pub fn describe(vcpu: &VcpuFd, memory: &Ram) -> String {
    let (Ok(regs), Ok(sregs)) = (vcpu.get_regs(), vcpu.get_sregs()) else {
        return "KVM does not tell the registers".to_owned();
    };
    let registers = [
        ("rip", regs.rip),
        ("rflags", regs.rflags),
        ("rsp", regs.rsp),
        ("rbp", regs.rbp),
        ("rax", regs.rax),
        ("rbx", regs.rbx),
        ("rcx", regs.rcx),
        ("rdx", regs.rdx),
        ("rsi", regs.rsi),
        ("rdi", regs.rdi),
        ("r8", regs.r8),
        ("r9", regs.r9),
        ("r10", regs.r10),
        ("r11", regs.r11),
        ("r12", regs.r12),
        ("r13", regs.r13),
        ("r14", regs.r14),
        ("r15", regs.r15),
        ("efer", sregs.efer),
        ("cr0", sregs.cr0),
        ("cr2", sregs.cr2),
        ("cr3", sregs.cr3),
        ("cr4", sregs.cr4),
        ("cs", u64::from(sregs.cs.selector)),
        ("gdt", sregs.gdt.base),
        ("idt", sregs.idt.base),
        ("cs.base", sregs.cs.base),
    ];
    let line = |registers: &[(&str, u64)]| {
        let registers = registers
            .iter()
            .map(|(name, value)| format!("{name}={value:016x}"));
        registers.collect::<Vec<_>>().join(" ") + "\n"
    };
    let text: String = registers.chunks(4).map(line).collect();
    let code = instruction_bytes(vcpu, memory, sregs.cs.base.wrapping_add(regs.rip));
    let code = code.map_or_else(|| "not mapped".to_owned(), |bytes| hex(&bytes));
    text + "code at rip: " + &code
}

/// The bytes at a virtual address, as far as they are in one page and in memory.
fn instruction_bytes(vcpu: &VcpuFd, memory: &Ram, address: u64) -> Option<Vec<u8>> {
    let translation = vcpu.translate_gva(address).ok()?;
    if translation.valid == 0 {
        return None;
    }
    let in_page = 4096 - (address & 0xfff) as usize;
    let mut bytes = vec![0; MAX_INSTRUCTION_BYTES.min(in_page)];
    let start = GuestAddress(translation.physical_address);
    memory.check_range(start, bytes.len()).then_some(())?;
    memory.read_slice(&mut bytes, start).ok()?;
    Some(bytes)
}

/// What `KVM_EXIT_INTERNAL_ERROR` says (KVM API §5).
#[must_use]
pub fn internal_error(run: &kvm_run) -> String {
    // SAFETY: the caller has seen KVM_EXIT_INTERNAL_ERROR, so this member of the union is filled; it is plain data.
    let (error, failure) = unsafe {
        (
            run.__bindgen_anon_1.internal,
            run.__bindgen_anon_1.emulation_failure,
        )
    };
    let data: Vec<_> = error
        .data
        .iter()
        .take(error.ndata as usize)
        .map(|word| format!("{word:#x}"))
        .collect();
    if error.suberror != KVM_INTERNAL_ERROR_EMULATION {
        return format!("KVM internal error {} (data: {})", error.suberror, data.join(" "));
    }
    let mut text = "KVM could not emulate an instruction".to_owned();
    if error.ndata >= 3 && failure.flags & HAS_INSTRUCTION_BYTES != 0 {
        // SAFETY: the flag says that size and bytes are filled; they are plain data.
        let instruction = unsafe { failure.__bindgen_anon_1.__bindgen_anon_1 };
        let len = usize::from(instruction.insn_size).min(instruction.insn_bytes.len());
        text.push_str(": ");
        text.push_str(&hex(&instruction.insn_bytes[..len]));
    }
    text
}
