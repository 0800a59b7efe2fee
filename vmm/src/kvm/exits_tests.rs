//! Reasons of exits and their counts.

use super::*;

type Returned<'a> = Result<VcpuExit<'a>, kvm_ioctls::Error>;

fn name(exit: Returned<'_>, number: u32) -> &'static str {
    NAMES[Reason::of(&exit, number).0]
}

#[test]
fn reasons_have_the_names_that_kvm_gives_them() {
    use kvm_bindings::*;
    for (number, expected) in [
        (KVM_EXIT_UNKNOWN, "unknown"),
        (KVM_EXIT_EXCEPTION, "exception"),
        (KVM_EXIT_HYPERCALL, "hypercall"),
        (KVM_EXIT_DEBUG, "debug"),
        (KVM_EXIT_HLT, "hlt"),
        (KVM_EXIT_IRQ_WINDOW_OPEN, "irq_window_open"),
        (KVM_EXIT_SHUTDOWN, "shutdown"),
        (KVM_EXIT_FAIL_ENTRY, "fail_entry"),
        (KVM_EXIT_INTR, "intr"),
        (KVM_EXIT_SET_TPR, "set_tpr"),
        (KVM_EXIT_TPR_ACCESS, "tpr_access"),
        (KVM_EXIT_NMI, "nmi"),
        (KVM_EXIT_INTERNAL_ERROR, "internal_error"),
        (KVM_EXIT_SYSTEM_EVENT, "system_event"),
        (KVM_EXIT_IOAPIC_EOI, "ioapic_eoi"),
        (KVM_EXIT_HYPERV, "hyperv"),
        (KVM_EXIT_X86_RDMSR, "x86_rdmsr"),
        (KVM_EXIT_X86_WRMSR, "x86_wrmsr"),
        (KVM_EXIT_DIRTY_RING_FULL, "dirty_ring_full"),
        (KVM_EXIT_AP_RESET_HOLD, "ap_reset_hold"),
        (KVM_EXIT_X86_BUS_LOCK, "x86_bus_lock"),
        (KVM_EXIT_XEN, "xen"),
        (KVM_EXIT_NOTIFY, "notify"),
        (KVM_EXIT_MEMORY_FAULT, "memory_fault"),
        (KVM_EXIT_MEMORY_FAULT + 1, "other"),
        (u32::MAX, "other"),
    ] {
        assert_eq!(name(Ok(VcpuExit::Unsupported(number)), number), expected);
    }
}

#[test]
fn reads_writes_and_errors_are_told_apart() {
    let failed = |number| Err(kvm_ioctls::Error::new(number));
    let stale = kvm_bindings::KVM_EXIT_SHUTDOWN;
    let mut byte = [0];
    assert_eq!(name(Ok(VcpuExit::IoIn(1, &mut byte)), KVM_EXIT_IO), "io_in");
    assert_eq!(name(Ok(VcpuExit::IoOut(1, &byte)), KVM_EXIT_IO), "io_out");
    assert_eq!(
        name(Ok(VcpuExit::MmioWrite(1, &byte)), KVM_EXIT_MMIO),
        "mmio_write"
    );
    assert_eq!(
        name(Ok(VcpuExit::MmioRead(1, &mut byte)), KVM_EXIT_MMIO),
        "mmio_read"
    );
    assert_eq!(name(failed(libc::EINTR), stale), "intr");
    assert_eq!(name(failed(libc::EAGAIN), stale), "eagain");
    assert_eq!(name(failed(libc::EFAULT), stale), "memory_fault");
    assert_eq!(name(failed(libc::ENOEXEC), stale), "error");
}

#[test]
fn what_has_not_occurred_is_not_there() {
    let exits = Exits::default();
    assert_eq!(exits.metrics(), VcpuMetrics::default());
    exits.handled(MMIO_WRITE, Duration::from_micros(3));
    exits.handled(MMIO_WRITE, Duration::from_micros(1));
    exits.unclaimed.increment();
    let metrics = exits.metrics();
    assert_eq!(metrics.exits.len(), 1);
    let writes = &metrics.exits["mmio_write"];
    assert_eq!(
        (writes.count, writes.sum_us, writes.log2_us.as_slice()),
        (2, 4, &[0, 1, 1][..])
    );
    assert_eq!(
        (
            metrics.count("mmio_write"),
            metrics.count("hlt"),
            metrics.unclaimed
        ),
        (2, 0, 1)
    );
}
