//! Bytes from a debugger's client, on a machine that is not there: `cargo +nightly fuzz run gdb_packets`, in the folder `vmm`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vmm::gdb::testing::{packet, session};

fn run(packets: &[u8]) -> Option<()> {
    let (mut session, mut target, _theirs) = session(1)?;
    // Lines are packets: the fuzzer need not find out how checksums are made.
    for text in packets.split(|byte| *byte == b'\n') {
        if session.feed(&mut target, &packet(text)).is_err() {
            break;
        }
    }
    target.debuggees.leave();
    assert!(target.debuggees.planted.is_empty() && target.debuggees.compared.is_empty());
    Some(())
}

fuzz_target!(|packets: &[u8]| {
    // A client that asks for more than the socket holds is waited for.
    if packets.len() < 4096 {
        run(packets);
    }
});
