//! State of a vCPU that kernels expect firmware to have set: local APIC pins and a few model-specific registers.

use kvm_bindings::{Msrs, kvm_lapic_state, kvm_msr_entry};
use kvm_ioctls::VcpuFd;

/// Local vector table entries of the pins LINT0 and LINT1 (SDM vol. 3 §12.5.1).
const LVT_LINT0: usize = 0x350;
const LVT_LINT1: usize = 0x360;
/// Delivery modes: external interrupt controller, non-maskable interrupt.
const MODE_EXTINT: u32 = 7 << 8;
const MODE_NMI: u32 = 4 << 8;

/// `IA32_MISC_ENABLE`: fast strings (SDM vol. 4).
const MSR_MISC_ENABLE: u32 = 0x1a0;
const FAST_STRINGS: u64 = 1;
/// `IA32_MTRR_DEF_TYPE`: enabled, write-back everywhere; without it Linux warns and distrusts its caches.
const MSR_MTRR_DEF_TYPE: u32 = 0x2ff;
const MTRR_ENABLE_WRITE_BACK: u64 = 1 << 11 | 6;
/// The time stamp counter starts at 0 on every vCPU, so that they agree.
const MSR_TSC: u32 = 0x10;

fn set_pin(lapic: &mut kvm_lapic_state, register: usize, mode: u32) {
    let old = lapic.regs[register..register + 4]
        .iter()
        .rev()
        .fold(0, |n, byte| n << 8 | u32::from(*byte as u8));
    for (byte, new) in lapic.regs[register..register + 4]
        .iter_mut()
        .zip(((old & !0x700) | mode).to_le_bytes())
    {
        *byte = new as _;
    }
}

/// Wires LINT0 to the legacy interrupt controller and LINT1 to NMI, as PC firmware does.
pub fn set_pins(vcpu: &VcpuFd) -> Result<(), kvm_ioctls::Error> {
    let mut lapic = vcpu.get_lapic()?;
    set_pin(&mut lapic, LVT_LINT0, MODE_EXTINT);
    set_pin(&mut lapic, LVT_LINT1, MODE_NMI);
    vcpu.set_lapic(&lapic)
}

/// Sets model-specific registers to their values after firmware. Registers that this KVM does not have are skipped:
/// their absence is visible to the guest in CPUID.
pub fn set_msrs(vcpu: &VcpuFd) -> Result<(), kvm_ioctls::Error> {
    let values = [
        (MSR_TSC, 0),
        (MSR_MISC_ENABLE, FAST_STRINGS),
        (MSR_MTRR_DEF_TYPE, MTRR_ENABLE_WRITE_BACK),
    ];
    let entries = values.map(|(index, data)| kvm_msr_entry {
        index,
        data,
        ..Default::default()
    });
    let mut rest = &entries[..];
    // KVM stops at the first register it refuses and says how many it has set.
    while !rest.is_empty() {
        let msrs = Msrs::from_entries(rest).map_err(|_| kvm_ioctls::Error::new(libc::ENOMEM))?;
        let done = vcpu.set_msrs(&msrs)?;
        rest = rest.get(done + 1..).unwrap_or_default();
    }
    Ok(())
}
