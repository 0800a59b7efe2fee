//! The protocol with a machine that is not there: whatever a client sends, the session goes on or ends.

use super::*;
use crate::gdb::debuggees::Debuggees;
use crate::gdb::link::Link;
use crate::kvm::debug::{Activity, Debuggee};
use crate::memory::Ram;
use kvm_bindings::{kvm_fpu, kvm_guest_debug, kvm_regs, kvm_sregs};
use proptest::prelude::*;
use vm_memory::GuestAddress;

/// Memory is where its addresses say.
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

/// A session, what belongs to it, and the client's end of the socket.
fn session() -> (Session, Target, UnixStream) {
    let link = Link::new(Arc::default(), 0, None, false).unwrap();
    link.add(Arc::new(Nothing));
    link.add(Arc::new(Nothing));
    let exit = ExitSignal::new().unwrap();
    let ram = Ram::from_ranges(&[(GuestAddress(0), 0x4000)]).unwrap();
    let mut target = Target::new(Debuggees::new(ram, Arc::new(link), exit.clone()));
    target.debuggees.halt();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let session = Session::new(Client::new(ours).unwrap(), &mut target, exit).unwrap();
    (session, target, theirs)
}

fn packet(text: &[u8]) -> Vec<u8> {
    let sum = text.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    [b"$", text, format!("#{sum:02x}").as_bytes()].concat()
}

#[test]
fn a_packet_without_an_end_ends_the_session() {
    let (mut session, mut target, _theirs) = session();
    assert_eq!(session.feed(&mut target, &[b'$'; MAX_PACKET_BYTES]), Ok(()));
    assert_eq!(session.feed(&mut target, b"$"), Err(End::Faulty));
}

proptest! {
    #[test]
    fn any_packets_are_answered_or_end_the_session(
        packets in prop::collection::vec((
            prop::sample::select(vec![
                "m", "M", "X", "x", "g", "G", "p", "P", "Z0,", "Z1,", "Z2,", "Z4,", "z0,", "z2,", "H", "T", "vCont;",
                "vCont;s:1;c", "vCont;c:", "qXfer:features:read:target.xml:", "qThreadExtraInfo,", "qSupported:", "D", "?", "c", "s", "",
            ]),
            "[0-9a-f,:;#$}*-]{0,24}",
        ), 0..12),
        interrupts: bool,
    ) {
        let (mut session, mut target, _theirs) = session();
        for (command, rest) in packets {
            let bytes = packet(format!("{command}{}", rest.replace('#', "")).as_bytes());
            if session.feed(&mut target, &bytes).is_err() || (interrupts && session.feed(&mut target, &[3]).is_err()) {
                break;
            }
        }
        target.debuggees.leave();
        prop_assert!(target.debuggees.planted.is_empty() && target.debuggees.compared.is_empty());
    }
}
