//! Bytes from a debugger's client, on a machine that is not there: `cargo +nightly fuzz run gdb_packets`, in the folder `vmm`.

#![no_main]

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use kvm_bindings::{kvm_fpu, kvm_guest_debug, kvm_regs, kvm_sregs};
use libfuzzer_sys::fuzz_target;
use vm_memory::GuestAddress;
use vmm::exit_signal::ExitSignal;
use vmm::gdb::debuggees::Debuggees;
use vmm::gdb::link::Link;
use vmm::gdb::session::{Client, Session};
use vmm::gdb::target::Target;
use vmm::kvm::debug::{Activity, Debuggee};
use vmm::memory::Ram;

/// Its memory is where addresses say.
struct Nothing;

impl Debuggee for Nothing {
    fn kick(&self) {}
    fn general(&self) -> io::Result<kvm_regs> {
        Ok(kvm_regs::default())
    }
    fn set_general(&self, _: &kvm_regs) -> io::Result<()> {
        Ok(())
    }
    fn system(&self) -> io::Result<kvm_sregs> {
        Ok(kvm_sregs::default())
    }
    fn set_system(&self, _: &kvm_sregs) -> io::Result<()> {
        Ok(())
    }
    fn float(&self) -> io::Result<kvm_fpu> {
        Ok(kvm_fpu::default())
    }
    fn set_float(&self, _: &kvm_fpu) -> io::Result<()> {
        Ok(())
    }
    fn translate(&self, address: u64) -> Option<u64> {
        Some(address)
    }
    fn activity(&self) -> io::Result<Activity> {
        Ok(Activity::Runs)
    }
    fn set_debug(&self, _: &kvm_guest_debug) -> io::Result<()> {
        Ok(())
    }
    fn add_debug_status(&self, _: u64) -> io::Result<()> {
        Ok(())
    }
}

fn run(packets: &[u8]) -> Option<()> {
    let link = Arc::new(Link::new(Arc::default(), 0, None, false).ok()?);
    link.add(Arc::new(Nothing));
    let exit = ExitSignal::new().ok()?;
    let ram = Ram::from_ranges(&[(GuestAddress(0), 0x4000)]).ok()?;
    let mut target = Target::new(Debuggees::new(ram, link, exit.clone()));
    target.debuggees.halt();
    let (ours, theirs) = UnixStream::pair().ok()?;
    let mut session = Session::new(Client::new(ours).ok()?, &mut target, exit).ok()?;
    // Lines are packets: the fuzzer need not find out how checksums are made.
    for text in packets.split(|byte| *byte == b'\n') {
        let sum = text.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        let packet = [b"$", text, format!("#{sum:02x}").as_bytes()].concat();
        if session.feed(&mut target, &packet).is_err() {
            break;
        }
    }
    target.debuggees.leave();
    assert!(target.debuggees.planted.is_empty() && target.debuggees.compared.is_empty());
    drop(theirs);
    Some(())
}

fuzz_target!(|packets: &[u8]| {
    // A client that asks for more than the socket holds is waited for.
    if packets.len() < 4096 {
        run(packets);
    }
});
