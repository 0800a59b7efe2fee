use super::*;
use proptest::prelude::*;

const ENTRIES: u16 = 8;

fn memory() -> Arc<MmapRegion> {
    Arc::new(MmapRegion::new(ALIGN + Record::len(ENTRIES)).unwrap())
}

/// Whoever comes next, at a place that is not the start.
fn next(memory: &Arc<MmapRegion>) -> Record {
    Record::new(memory.clone(), ALIGN, ENTRIES)
}

#[test]
fn what_was_not_answered_is_done_again_in_the_order_in_which_it_was_taken() {
    let memory = memory();
    let mut record = next(&memory);
    assert!(record.take_over(7).is_empty());
    for head in [5, 3, 0, 6] {
        record.take(head);
    }
    record.list([3].into_iter());
    record.given_back([3].into_iter(), 8);
    for _ in 0..2 {
        assert_eq!(next(&memory).take_over(8), [5, 0, 6]);
    }
    let mut record = next(&memory);
    record.take_over(8);
    // What comes new comes last.
    record.take(3);
    assert_eq!(next(&memory).take_over(8), [5, 0, 6, 3]);
}

#[test]
fn a_death_while_chains_are_given_back_loses_and_doubles_none() {
    let before = || {
        let memory = memory();
        let mut record = next(&memory);
        record.take_over(0xfffe);
        (0..6).for_each(|head| record.take(head));
        record.list([1].into_iter());
        record.given_back([1].into_iter(), 0xffff);
        record.list([4, 0, 3].into_iter());
        (memory, record)
    };
    // The driver has not seen them.
    let (memory, _) = before();
    assert_eq!(next(&memory).take_over(0xffff), [0, 2, 3, 4, 5]);
    // The driver sees them.
    let (memory, _) = before();
    assert_eq!(next(&memory).take_over(2), [2, 5]);
    // All is done.
    let (memory, mut record) = before();
    record.given_back([4, 0, 3].into_iter(), 2);
    assert_eq!(next(&memory).take_over(2), [2, 5]);
}

proptest! {
    #[test]
    fn whatever_is_in_the_memory_heads_are_those_of_the_queue(bytes in prop::collection::vec(any::<u8>(), Record::len(ENTRIES)), used: u16) {
        let memory = memory();
        memory.as_volatile_slice().write_slice(&bytes, ALIGN).unwrap();
        let mut heads = next(&memory).take_over(used);
        prop_assert!(heads.iter().all(|head| *head < ENTRIES));
        heads.sort_unstable();
        heads.dedup();
        prop_assert_eq!(heads, {
            let mut again = next(&memory).take_over(used);
            again.sort_unstable();
            again
        });
    }
}
