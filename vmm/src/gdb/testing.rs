//! A machine that is not there, for tests and fuzz targets: whatever a client sends, the session goes on or ends.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use kvm_bindings::{kvm_fpu, kvm_guest_debug, kvm_regs, kvm_sregs};
use vm_memory::GuestAddress;

use super::debuggees::Debuggees;
use super::link::Link;
use super::session::{Client, Session};
use super::target::Target;
use crate::exit_signal::ExitSignal;
use crate::kvm::debug::{Activity, Debuggee};
use crate::memory::Ram;

/// A vCPU whose memory is where addresses say.
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

/// A session with a machine of so many vCPUs, the machine, and the client's end of the socket. Nothing if the host has no
/// descriptors left.
#[must_use]
pub fn session(vcpus: usize) -> Option<(Session, Target, UnixStream)> {
    let link = Arc::new(Link::new(Arc::default(), 0, None, false).ok()?);
    (0..vcpus).for_each(|_| link.add(Arc::new(Nothing)));
    let exit = ExitSignal::new().ok()?;
    let ram = Ram::from_ranges(&[(GuestAddress(0), 0x4000)]).ok()?;
    let mut target = Target::new(Debuggees::new(ram, link, exit.clone()));
    target.debuggees.halt();
    let (ours, theirs) = UnixStream::pair().ok()?;
    let session = Session::new(Client::new(ours).ok()?, &mut target, exit).ok()?;
    Some((session, target, theirs))
}

/// A packet with its checksum.
#[must_use]
pub fn packet(text: &[u8]) -> Vec<u8> {
    let sum = text.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    [b"$", text, format!("#{sum:02x}").as_bytes()].concat()
}
