//! Finds out what kind of KVM this host has, in a few milliseconds.
//!
//! There are KVMs without hardware support that emulate a guest's kernel mode and leave instructions out; no ordinary
//! guest survives there. They give the same answers to all questions about capabilities, so a guest of a few
//! instructions is run: it executes INT3 in kernel mode, which the processor has had since 1978 and kernels need
//! to patch themselves, with a handler that says so. Where the instruction is missing KVM reports an emulation failure.

use std::io;

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd};
use serde::{Deserialize, Serialize};
use vm_memory::{GuestAddress, GuestMemoryBackend};

use crate::arch::{layout, registers};
use crate::config::{BootProtocol, MemoryConfig};
use crate::kvm::failure;
use crate::memory::{self, Ram};

/// Kind of KVM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum KvmKind {
    /// There is none, or it cannot be used.
    None {
        /// Why not, and what to do.
        reason: String,
    },
    /// The guest's kernel mode is emulated: ordinary guests do not run.
    Software {
        /// How that was found out.
        reason: String,
    },
    /// The processor runs guests.
    Hardware {
        /// The processor's vendor string.
        vendor: String,
        /// Whether this host is a virtual machine itself, so that its guests are nested.
        nested: bool,
    },
}

const MEMORY_BYTES: u64 = layout::HIGH_RAM + 0x1000;
const CODE: u64 = layout::HIGH_RAM;
const HANDLER: u64 = layout::HIGH_RAM + 0x100;
const IDT: u64 = 0x1000;
/// Ports by which the guest says how far it came.
const AFTER_BREAKPOINT: u16 = 0x501;
const IN_HANDLER: u16 = 0x500;
/// More exits than the guest needs.
const MAX_EXITS: usize = 8;

/// Looks at this host's KVM.
#[must_use]
pub fn probe() -> KvmKind {
    let kvm = match Kvm::new() {
        Ok(kvm) => kvm,
        Err(error) => {
            return KvmKind::None {
                reason: missing(&io::Error::from_raw_os_error(error.errno())),
            };
        }
    };
    match run_guest(&kvm) {
        Ok(Outcome::Handled) => hardware(&kvm),
        Ok(Outcome::Failed(what)) => KvmKind::Software {
            reason: format!("a guest cannot execute INT3 in kernel mode: {what}"),
        },
        Err(problem) => KvmKind::None {
            reason: format!("/dev/kvm does not run even a tiny guest: {problem}"),
        },
    }
}

fn missing(error: &io::Error) -> String {
    let remedy = match error.kind() {
        io::ErrorKind::NotFound => {
            "load the kvm_intel or kvm_amd module, and switch virtualization on in the firmware"
        }
        io::ErrorKind::PermissionDenied => "run as root or as a member of the group that owns it",
        _ => "see the kernel log",
    };
    format!("cannot open /dev/kvm: {error}; {remedy}")
}

fn hardware(kvm: &Kvm) -> KvmKind {
    let leaf = |function: u32| {
        let cpuid = kvm
            .get_supported_cpuid(kvm_bindings::KVM_MAX_CPUID_ENTRIES)
            .ok()?;
        cpuid
            .as_slice()
            .iter()
            .find(|entry| entry.function == function)
            .copied()
    };
    let vendor = leaf(0).map_or_else(String::new, |leaf| {
        let bytes: Vec<u8> = [leaf.ebx, leaf.edx, leaf.ecx]
            .into_iter()
            .flat_map(u32::to_le_bytes)
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    });
    // The hypervisor bit of this host's own processor, not of what it would give to guests.
    let nested = std::arch::x86_64::__cpuid(1).ecx & 1 << 31 != 0;
    KvmKind::Hardware { vendor, nested }
}

enum Outcome {
    /// The guest's handler ran and returned.
    Handled,
    /// KVM could not go on.
    Failed(String),
}

fn run_guest(kvm: &Kvm) -> Result<Outcome, String> {
    let text = |error: kvm_ioctls::Error| error.to_string();
    let memory = memory::create(MEMORY_BYTES, &MemoryConfig::default()).map_err(|error| error.to_string())?;
    write_guest(&memory).map_err(|error| error.to_string())?;
    let vm = kvm.create_vm().map_err(text)?;
    let host = memory
        .get_host_address(GuestAddress(0))
        .map_err(|error| error.to_string())?;
    let region = kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: 0,
        memory_size: MEMORY_BYTES,
        userspace_addr: host as u64,
    };
    // SAFETY: the range is the whole of `memory`, which is dropped after the VM: locals go in reverse order.
    unsafe { vm.set_user_memory_region(region) }.map_err(text)?;
    vm.set_identity_map_address(layout::KVM_IDENTITY_MAP)
        .map_err(text)?;
    vm.set_tss_address(layout::KVM_TSS as usize).map_err(text)?;
    let mut vcpu = vm.create_vcpu(0).map_err(text)?;
    let cpuid = kvm
        .get_supported_cpuid(kvm_bindings::KVM_MAX_CPUID_ENTRIES)
        .map_err(text)?;
    vcpu.set_cpuid2(&cpuid).map_err(text)?;
    registers::set_boot_state(&vcpu, BootProtocol::Linux64, CODE).map_err(text)?;
    set_interrupt_table(&vcpu).map_err(text)?;
    Ok(watch(&mut vcpu))
}

fn write_guest(memory: &Ram) -> Result<(), memory::MemoryError> {
    registers::write_tables(memory, BootProtocol::Linux64)?;
    let out = |port: u16| [0x66, 0xba, port.to_le_bytes()[0], port.to_le_bytes()[1], 0xee];
    // int3; mov dx, port; out dx, al; hlt
    memory::write(
        memory,
        CODE,
        &[&[0xcc][..], &out(AFTER_BREAKPOINT), &[0xf4]].concat(),
    )?;
    // mov dx, port; out dx, al; iretq
    memory::write(memory, HANDLER, &[&out(IN_HANDLER)[..], &[0x48, 0xcf]].concat())?;
    // A 64-bit interrupt gate for vector 3 (SDM vol. 3 §6.14.1) in the flat code segment 0x10.
    let gate = (HANDLER & 0xffff) | 0x10 << 16 | 0x8e00 << 32 | (HANDLER >> 16 & 0xffff) << 48;
    memory::write(
        memory,
        IDT + 3 * 16,
        &[gate.to_le_bytes(), (HANDLER >> 32).to_le_bytes()].concat(),
    )
}

fn set_interrupt_table(vcpu: &VcpuFd) -> Result<(), kvm_ioctls::Error> {
    let mut sregs = vcpu.get_sregs()?;
    sregs.idt.base = IDT;
    sregs.idt.limit = 4 * 16 - 1;
    vcpu.set_sregs(&sregs)
}

fn watch(vcpu: &mut VcpuFd) -> Outcome {
    let mut handled = false;
    for _ in 0..MAX_EXITS {
        match vcpu.run() {
            Ok(VcpuExit::IoOut(IN_HANDLER, _)) => handled = true,
            Ok(VcpuExit::IoOut(AFTER_BREAKPOINT, _)) if handled => return Outcome::Handled,
            Ok(VcpuExit::IoOut(..)) => return Outcome::Failed("its handler is not called".to_owned()),
            Ok(VcpuExit::InternalError) => {
                return Outcome::Failed(failure::internal_error(vcpu.get_kvm_run()));
            }
            Ok(VcpuExit::Shutdown) => return Outcome::Failed("triple fault".to_owned()),
            Ok(other) => return Outcome::Failed(format!("unexpected exit {other:?}")),
            Err(error) if error.errno() == libc::EINTR => {}
            Err(error) => return Outcome::Failed(format!("KVM_RUN fails: {error}")),
        }
    }
    Outcome::Failed("the guest goes in circles".to_owned())
}

#[cfg(test)]
#[path = "probe_tests.rs"]
mod tests;
