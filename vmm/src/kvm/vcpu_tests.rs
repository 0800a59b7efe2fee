//! What returns of `KVM_RUN` that cannot be caused at will lead to.

use super::*;
use crate::config::MemoryConfig;
use kvm_bindings::KVM_SYSTEM_EVENT_CRASH;
use kvm_ioctls::Kvm;

/// How the VM ends when `KVM_RUN` returns this; `None` where there is no KVM.
fn ends(exit: VcpuExit<'_>) -> Option<ExitReport> {
    let vm = Kvm::new().ok()?.create_vm().ok()?;
    let mut fd = vm.create_vcpu(0).ok()?;
    let runner = Runner {
        index: 0,
        page: Arc::new(RunPage::new(&mut fd)),
        exits: Arc::default(),
        context: VcpuContext {
            ports: Arc::default(),
            mmio: Arc::default(),
            memory: crate::memory::create(2 << 20, &MemoryConfig::default()).unwrap(),
            control: Arc::default(),
            exit: ExitSignal::new().unwrap(),
            clock: Arc::new(BootClock::new(None)),
            filters: Filters::Off,
            pinning: Arc::default(),
            debugger: None,
        },
    };
    let Exit::Stop(stop) = runner.answer(Ok(exit)) else {
        panic!("the guest goes on");
    };
    runner.stop(&mut fd, stop);
    assert_eq!(runner.context.control.wanted(), Wanted::End);
    runner.context.exit.report()
}

#[test]
fn every_way_in_which_kvm_gives_up_ends_the_vm_with_its_name() {
    let fault = VcpuExit::MemoryFault {
        flags: 0,
        gpa: 0x1000,
        size: 0x1000,
    };
    for (exit, reason, message) in [
        (VcpuExit::Shutdown, ExitReason::Panic, "triple fault"),
        (
            VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_SHUTDOWN, &[]),
            ExitReason::Poweroff,
            "powered off",
        ),
        (
            VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_RESET, &[]),
            ExitReason::Reset,
            "a reset",
        ),
        (
            VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_CRASH, &[]),
            ExitReason::Error,
            "KVM system event 3",
        ),
        (VcpuExit::InternalError, ExitReason::Error, "KVM internal error"),
        (
            VcpuExit::FailEntry(0x21, 3),
            ExitReason::Error,
            "reason 0x21 on host CPU 3",
        ),
        (fault, ExitReason::Error, "guest memory at 0x1000"),
        (VcpuExit::Hlt, ExitReason::Error, "unexpectedly: Hlt"),
        (VcpuExit::Unsupported(77), ExitReason::Error, "Unsupported(77)"),
    ] {
        let Some(report) = ends(exit) else { return };
        assert_eq!(report.reason, reason, "{}", report.message);
        assert!(report.message.contains(message), "{}", report.message);
    }
}
