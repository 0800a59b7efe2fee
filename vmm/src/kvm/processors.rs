//! Makes vCPUs, at the start and whenever one is added.

use std::sync::Arc;

use kvm_ioctls::{VcpuFd, VmFd};

use super::vm::{KvmError, Vm, call};
use crate::arch::cpuid::Template;
use crate::arch::cpuid::model::{Changes, Model, ModelError};
use crate::arch::topology::Topology;
use crate::arch::{apic, msrs};

/// What it takes to make any vCPU of a VM.
pub struct Processors {
    vm: Arc<VmFd>,
    cpuid: Template,
    topology: Topology,
}

impl Processors {
    /// Prepares for vCPUs in this arrangement, with the features of `model` and its changes.
    pub fn new(vm: &Vm, topology: Topology, model: Model, changes: &Changes) -> Result<Self, ModelError> {
        let cpuid = Template::new(
            vm.supported_cpuid(),
            topology,
            vm.has_tsc_deadline(),
            model,
            changes,
        )?;
        Ok(Self {
            vm: vm.fd(),
            cpuid,
            topology,
        })
    }

    /// Makes the vCPU with this index. The first is the boot processor; any other waits for INIT and SIPI.
    pub fn create(&self, index: u8) -> Result<VcpuFd, KvmError> {
        let id = u64::from(self.topology.apic_id(index));
        let vcpu = self.vm.create_vcpu(id).map_err(call("create a vCPU"))?;
        let cpuid = self
            .cpuid
            .for_vcpu(index)
            .ok_or_else(|| call("take so many CPUID entries")(kvm_ioctls::Error::new(libc::E2BIG)))?;
        vcpu.set_cpuid2(&cpuid).map_err(call("set CPUID"))?;
        apic::set_msrs(&vcpu).map_err(call("set model-specific registers"))?;
        msrs::match_features(&vcpu, &self.cpuid).map_err(call("set feature registers"))?;
        apic::set_pins(&vcpu).map_err(call("set up a local APIC"))?;
        Ok(vcpu)
    }
}
