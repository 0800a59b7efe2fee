//! The page that KVM shares with this process for each vCPU, as far as it is used by hand.

use std::sync::atomic::AtomicU8;

use kvm_bindings::kvm_run;
use kvm_ioctls::VcpuFd;

/// A pointer to the page. It is mapped for as long as the `VcpuFd` lives that it was made from: whoever keeps a pointer keeps
/// that, too.
pub(super) struct RunPage(*mut kvm_run);

// SAFETY: the page is mapped (see above). Other threads than the vCPU's touch `immediate_exit` only, atomically.
unsafe impl Send for RunPage {}
// SAFETY: as above.
unsafe impl Sync for RunPage {}

impl RunPage {
    /// The page of a vCPU.
    pub(super) fn new(fd: &mut VcpuFd) -> Self {
        Self(fd.get_kvm_run())
    }

    /// The flag that makes `KVM_RUN` return at once.
    pub(super) fn immediate_exit(&self) -> &AtomicU8 {
        // SAFETY: the page is mapped (see above); the field is a byte that, within this process, is only accessed here.
        unsafe { AtomicU8::from_ptr(&raw mut (*self.0).immediate_exit) }
    }

    /// Why `KVM_RUN` returned (KVM API §5); undefined after an error.
    pub(super) fn exit_reason(&self) -> u32 {
        // SAFETY: the page is mapped; the caller is the vCPU's thread, which is not in KVM.
        unsafe { (&raw const (*self.0).exit_reason).read() }
    }

    /// Size of each item of a port access; string instructions bring several.
    pub(super) fn io_size(&self) -> usize {
        // SAFETY: the page is mapped; the caller is the vCPU's thread after a port exit, so the member is filled.
        usize::from(unsafe { (&raw const (*self.0).__bindgen_anon_1.io.size).read() }).max(1)
    }
}
