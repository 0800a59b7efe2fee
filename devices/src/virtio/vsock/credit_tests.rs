use super::*;
use proptest::prelude::*;

/// What can happen to a connection's counters.
#[derive(Debug, Clone)]
enum Step {
    Receive(u32),
    Forward(u32),
    PeerTold(u32, u32),
    Send(u32),
    Tell,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        any::<u32>().prop_map(Step::Receive),
        (0..BUFFER_SIZE * 2).prop_map(Step::Receive),
        (0..BUFFER_SIZE).prop_map(Step::Forward),
        (any::<u32>(), any::<u32>()).prop_map(|(size, forwarded)| Step::PeerTold(size, forwarded)),
        (0..100_000u32).prop_map(Step::Send),
        Just(Step::Tell),
    ]
}

proptest! {
    /// Whatever the guest says: we never keep more than the buffer, and never send more than it has room for.
    #[test]
    fn neither_side_is_overrun(steps in proptest::collection::vec(step(), 0..200)) {
        let mut credit = Credit::default();
        let (mut buffered, mut sent) = (0u64, 0u32);
        let (mut size, mut forwarded) = (0u32, 0u32);
        for step in steps {
            match step {
                Step::Receive(len) => if credit.receive(len) { buffered += u64::from(len) },
                Step::Forward(len) => {
                    let len = u64::from(len).min(buffered);
                    buffered -= len;
                    credit.forward(len as u32);
                }
                Step::PeerTold(new_size, new_forwarded) => {
                    (size, forwarded) = (new_size, new_forwarded);
                    credit.peer_told(size, forwarded);
                }
                Step::Send(len) => {
                    let len = len.min(credit.available());
                    sent = sent.wrapping_add(len);
                    credit.send(len);
                    prop_assert!(len == 0 || sent.wrapping_sub(forwarded) <= size);
                }
                Step::Tell => { credit.tell(); prop_assert!(!credit.update_due()); }
            }
            prop_assert!(buffered <= u64::from(BUFFER_SIZE));
        }
    }
}

#[test]
fn a_guest_without_room_hears_of_it_as_soon_as_the_host_reads() {
    let mut credit = Credit::default();
    assert!(credit.receive(BUFFER_SIZE));
    assert!(!credit.receive(1));
    credit.forward(BUFFER_SIZE);
    assert!(credit.update_due());
    assert_eq!(credit.tell(), (BUFFER_SIZE, BUFFER_SIZE));
    assert!(credit.receive(BUFFER_SIZE));
}
