//! The protocol with a machine that is not there: whatever a client sends, the session goes on or ends.

use super::*;
use crate::gdb::testing::{packet, session};
use proptest::prelude::*;

#[test]
fn a_packet_without_an_end_ends_the_session() {
    let (mut session, mut target, _theirs) = session(2).unwrap();
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
        let (mut session, mut target, _theirs) = session(2).unwrap();
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
