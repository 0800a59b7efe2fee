//! Model-specific registers that tell of features, made to agree with CPUID.
//!
//! KVM refuses a guest most registers of features that its CPUID does not have (`VMX` capabilities, `XSS`, protection
//! keys). What is left is `IA32_ARCH_CAPABILITIES`, of which KVM gives the host's whole value.

use kvm_bindings::{Msrs, kvm_msr_entry};
use kvm_ioctls::VcpuFd;

use super::cpuid::Template;

/// `IA32_ARCH_CAPABILITIES` (SDM vol. 4).
const ARCH_CAPABILITIES: u32 = 0x10a;
/// Its bits that tell of transactional memory: the register to control it is there, it is not vulnerable.
const TSX_CTRL: u64 = 1 << 7;
const TAA_NO: u64 = 1 << 8;

/// What the guest may see of the host's capabilities.
fn capabilities(host: u64, has: impl Fn(&str) -> bool) -> u64 {
    match has("rtm") || has("hle") {
        true => host,
        // Without transactions there is nothing to control, and nothing to be vulnerable.
        false => host & !TSX_CTRL | TAA_NO,
    }
}

/// Makes feature registers agree with CPUID, which must be set.
pub fn match_features(vcpu: &VcpuFd, cpuid: &Template) -> Result<(), kvm_ioctls::Error> {
    if !cpuid.has("arch_capabilities") {
        return Ok(());
    }
    let entry = kvm_msr_entry {
        index: ARCH_CAPABILITIES,
        ..Default::default()
    };
    let too_many = |_| kvm_ioctls::Error::new(libc::ENOMEM);
    let mut msrs = Msrs::from_entries(&[entry]).map_err(too_many)?;
    // Not every KVM lets us read it; then it is as KVM made it.
    if vcpu.get_msrs(&mut msrs)? == 1
        && let [entry] = msrs.as_mut_slice()
    {
        entry.data = capabilities(entry.data, |name| cpuid.has(name));
        vcpu.set_msrs(&msrs)?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "msrs_tests.rs"]
mod tests;
