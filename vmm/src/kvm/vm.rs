//! A KVM virtual machine: memory slots and in-kernel interrupt controllers.

use std::sync::Arc;

use kvm_bindings::{
    CpuId, KVM_API_VERSION, KVM_MAX_CPUID_ENTRIES, KVM_MEM_READONLY, kvm_userspace_memory_region,
};
use kvm_ioctls::{Cap, Kvm, VmFd};
use thiserror::Error;
use vm_memory::{Address, GuestMemoryBackend, GuestMemoryRegion, MemoryRegionAddress};

use crate::arch::layout;
use crate::attach::pmem::Mapping;
use crate::memory::Ram;

/// Why KVM cannot run the VM.
#[derive(Debug, Error)]
pub enum KvmError {
    /// The device cannot be opened.
    #[error("cannot open /dev/kvm: {0}; check that the kvm module is loaded and that this user may use it")]
    Open(#[source] kvm_ioctls::Error),
    /// The kernel speaks another version of the interface.
    #[error("/dev/kvm speaks version {0} of its interface, {KVM_API_VERSION} is needed")]
    Version(i32),
    /// A feature is missing.
    #[error("this kernel's KVM has no {0}; a kernel of 5.10 or later has it")]
    Missing(&'static str),
    /// More vCPUs were asked for than KVM gives.
    #[error("KVM on this host gives a VM at most {most} vCPUs, {asked} were asked for")]
    TooManyVcpus {
        /// The host's limit.
        most: usize,
        /// What the configuration says.
        asked: u8,
    },
    /// A call failed.
    #[error("KVM refuses to {what}: {source}")]
    Call {
        /// What was tried.
        what: &'static str,
        /// What KVM said.
        source: kvm_ioctls::Error,
    },
    /// Guest memory has no address in this process.
    #[error("guest memory cannot be given to KVM: {0}")]
    Memory(#[from] vm_memory::GuestMemoryError),
}

/// Names the call in an error.
pub(crate) fn call(what: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> KvmError {
    move |source| KvmError::Call { what, source }
}

/// A VM without vCPUs.
pub struct Vm {
    fd: Arc<VmFd>,
    supported_cpuid: CpuId,
    tsc_deadline: bool,
}

impl Vm {
    /// Makes a VM with this memory, and room for so many vCPUs.
    pub fn new(memory: &Ram, vcpus: u8) -> Result<Self, KvmError> {
        let kvm = Kvm::new().map_err(KvmError::Open)?;
        let version = kvm.get_api_version();
        if version != KVM_API_VERSION as i32 {
            return Err(KvmError::Version(version));
        }
        for (capability, name) in [
            (Cap::Irqchip, "in-kernel interrupt controller"),
            (Cap::Ioeventfd, "ioeventfd"),
            (Cap::Irqfd, "irqfd"),
            (Cap::IrqRouting, "interrupt routing"),
            (Cap::UserMemory, "user memory slots"),
            (Cap::ImmediateExit, "immediate exit"),
        ] {
            if !kvm.check_extension(capability) {
                return Err(KvmError::Missing(name));
            }
        }
        let most = kvm.get_max_vcpus();
        if usize::from(vcpus) > most {
            return Err(KvmError::TooManyVcpus { most, asked: vcpus });
        }
        let fd = kvm.create_vm().map_err(call("create a VM"))?;
        // Memory comes before the interrupt controllers: both wait for readers of KVM's tables, and a memory slot that
        // is added soon after such a wait takes ten times as long (measured: 5 ms instead of 0.3).
        for (slot, region) in (0..).zip(memory.iter()) {
            let region = kvm_userspace_memory_region {
                slot,
                flags: 0,
                guest_phys_addr: region.start_addr().raw_value(),
                memory_size: region.len(),
                userspace_addr: region.get_host_address(MemoryRegionAddress(0))? as u64,
            };
            // SAFETY: the range is one mapping of guest memory, which the caller keeps for as long as the VM lives.
            unsafe { fd.set_user_memory_region(region) }.map_err(call("use guest memory"))?;
        }
        // Both areas must be set before the first vCPU exists; Intel hosts use them to run real mode.
        fd.set_identity_map_address(layout::KVM_IDENTITY_MAP)
            .map_err(call("set the identity map"))?;
        fd.set_tss_address(layout::KVM_TSS as usize)
            .map_err(call("set the TSS address"))?;
        fd.create_irq_chip()
            .map_err(call("create interrupt controllers"))?;
        let supported_cpuid = kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(call("list CPU features"))?;
        let tsc_deadline = kvm.check_extension(Cap::TscDeadlineTimer);
        Ok(Self {
            fd: Arc::new(fd),
            supported_cpuid,
            tsc_deadline,
        })
    }

    /// Shows a mapping of a file to the guest. `slot` must be one that neither guest memory nor another mapping has.
    pub fn add_mapping(&self, slot: u32, mapping: &Mapping) -> Result<(), KvmError> {
        let region = kvm_userspace_memory_region {
            slot,
            flags: if mapping.read_only { KVM_MEM_READONLY } else { 0 },
            guest_phys_addr: mapping.address,
            memory_size: mapping.bytes,
            userspace_addr: mapping.host as u64,
        };
        // SAFETY: the range is a mapping of its own that stays until the process ends.
        unsafe { self.fd.set_user_memory_region(region) }.map_err(call("use persistent memory"))
    }

    /// The VM's descriptor, for those who register interrupts and notifications.
    #[must_use]
    pub fn fd(&self) -> Arc<VmFd> {
        self.fd.clone()
    }

    /// CPU features that KVM can give to guests.
    #[must_use]
    pub fn supported_cpuid(&self) -> &CpuId {
        &self.supported_cpuid
    }

    /// Whether the local APIC's timer has the deadline mode.
    #[must_use]
    pub fn has_tsc_deadline(&self) -> bool {
        self.tsc_deadline
    }
}
