use super::*;
use proptest::prelude::*;

proptest! {
    #[test]
    fn pieces_are_the_range_and_cross_no_page(address: u64, len in 0usize..20_000) {
        match pieces(address, len) {
            None => prop_assert!(address.checked_add(len as u64).is_none()),
            Some(pieces) => {
                let mut next = 0;
                for (start, bytes) in pieces {
                    prop_assert_eq!((start, bytes.start), (address + next as u64, next));
                    prop_assert!(!bytes.is_empty());
                    prop_assert_eq!(start / PAGE_BYTES, (start + bytes.len() as u64 - 1) / PAGE_BYTES);
                    next = bytes.end;
                }
                prop_assert_eq!(next, len);
            }
        }
    }
}
