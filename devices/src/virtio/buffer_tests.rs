use super::*;
use crate::testing::{Guest, MEMORY_SIZE};
use proptest::prelude::*;
use vm_memory::GuestAddressSpace;

fn segment(address: u64, len: u32) -> Segment {
    Segment {
        address: GuestAddress(address),
        len,
    }
}

#[test]
fn bytes_are_read_and_written_across_segments() {
    let guest = Guest::new();
    let ram = guest.memory().memory();
    let segments = vec![segment(0x100, 3), segment(0x200, 0), segment(0x300, 5)];
    Buffer::new(segments.clone()).write(&ram, b"abcdefgh").unwrap();
    assert_eq!(
        (guest.read(0x100, 3), guest.read(0x300, 5)),
        (b"abc".to_vec(), b"defgh".to_vec())
    );
    let mut buffer = Buffer::new(segments);
    let mut bytes = [0; 4];
    buffer.read(&ram, &mut bytes).unwrap();
    assert_eq!((&bytes, buffer.len()), (b"abcd", 4));
    buffer.skip(3).unwrap();
    buffer.read(&ram, &mut bytes[..1]).unwrap();
    assert_eq!((bytes[0], buffer.is_empty()), (b'h', true));
    let error = buffer.read(&ram, &mut bytes).unwrap_err();
    assert_eq!(
        error,
        BufferError::TooShort {
            available: 0,
            needed: 4
        }
    );
}

#[test]
fn memory_that_does_not_exist_is_an_error_and_no_more() {
    let guest = Guest::new();
    let ram = guest.memory().memory();
    for address in [MEMORY_SIZE - 1, MEMORY_SIZE, u64::MAX - 1] {
        let mut buffer = Buffer::new(vec![segment(address, 16)]);
        assert!(buffer.iovecs(&ram, 16).is_err(), "{address:#x}");
        assert_eq!(
            buffer.write(&ram, &[0; 16]),
            Err(BufferError::BadAddress { address })
        );
    }
}

proptest! {
    /// Splitting loses no byte and changes no address.
    #[test]
    fn the_parts_of_a_split_are_the_whole(lens in proptest::collection::vec(0..100u32, 0..8), at in 0..500u64) {
        let address = |index: usize| 0x1000 * (index as u64 + 1);
        let segments: Vec<_> = lens.iter().enumerate().map(|(index, len)| segment(address(index), *len)).collect();
        let whole = Buffer::new(segments);
        let mut front = whole.clone();
        match front.split_off(at) {
            Err(error) => {
                prop_assert!(at > whole.len());
                prop_assert_eq!(error, BufferError::TooShort { available: whole.len(), needed: at });
            }
            Ok(back) => {
                prop_assert_eq!(front.len(), at);
                let guest = Guest::new();
                let ram = guest.memory().memory();
                let bytes = |buffer: &Buffer| -> Vec<usize> {
                    let iovecs = buffer.iovecs(&ram, u64::MAX).unwrap();
                    iovecs.iter().flat_map(|iovec| {
                        let start = iovec.iov_base as usize;
                        start..start + iovec.iov_len
                    }).collect()
                };
                prop_assert_eq!([bytes(&front), bytes(&back)].concat(), bytes(&whole));
            }
        }
    }
}
