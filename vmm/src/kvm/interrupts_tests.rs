//! The routing table, and messages against the host's KVM where there is one.

use super::*;
use kvm_ioctls::Kvm;

fn interrupts() -> Option<Arc<Interrupts>> {
    let vm = Kvm::new().ok()?.create_vm().ok()?;
    vm.create_irq_chip().ok()?;
    Some(Interrupts::new(Arc::new(vm)))
}

#[test]
fn the_table_has_every_pin_and_only_programmed_messages() {
    let message = Message {
        address: 0x1_fee0_1000,
        data: 0x41,
    };
    let entries = routes(&[Slot::Free, Slot::Allocated(None), Slot::Allocated(Some(message))]);
    assert_eq!(entries.len(), 24 + 16 + 1);
    let last = entries.last().unwrap();
    assert_eq!((last.gsi, last.type_), (26, KVM_IRQ_ROUTING_MSI));
    // SAFETY: the type says that the union holds a message.
    let msi = unsafe { last.u.msi };
    assert_eq!((msi.address_lo, msi.address_hi, msi.data), (0xfee0_1000, 1, 0x41));
}

#[test]
fn numbers_of_dropped_messages_are_used_again() {
    let Some(interrupts) = interrupts() else { return };
    let controller = Messages(interrupts.clone());
    let first = controller.allocate().unwrap();
    let _second = controller.allocate().unwrap();
    first.set(0xfee0_0000, 0x30, false).unwrap();
    first.set(0xfee0_0000, 0x31, false).unwrap();
    first.set(0xfee0_0000, 0x31, true).unwrap();
    first.set(0xfee0_0000, 0x31, true).unwrap();
    first.trigger().unwrap();
    first.set(0xfee0_0000, 0x31, false).unwrap();
    drop(first);
    assert_eq!(interrupts.slots.lock().unwrap()[0], Slot::Free);
    let again = controller.allocate().unwrap();
    again.set(0xfee0_0000, 0x32, false).unwrap();
    assert_eq!(interrupts.slots.lock().unwrap().len(), 2);
}

#[test]
fn messages_run_out_with_an_error() {
    let Some(interrupts) = interrupts() else { return };
    *interrupts.slots.lock().unwrap() = vec![Slot::Allocated(None); MAX_MESSAGES];
    let error = Messages(interrupts).allocate().err().unwrap();
    assert!(error.to_string().contains("1024"), "{error}");
}
