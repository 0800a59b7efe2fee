use super::*;
use crate::testing::Guest;
use crate::virtio::buffer::Segment;
use proptest::prelude::*;
use vm_memory::{GuestAddress, GuestAddressSpace};

const SIZE: u64 = 1 << 20;

fn parse(guest: &Guest, header: &[u8], readable: u32, writable: u32, read_only: bool) -> Option<Request> {
    guest.write(0x1000, header);
    let segment = |address, len| Segment {
        address: GuestAddress(address),
        len,
    };
    let chain = Chain {
        head: 0,
        readable: Buffer::new(vec![
            segment(0x1000, header.len() as u32),
            segment(0x2000, readable),
        ]),
        writable: Buffer::new(vec![segment(0x20_0000, writable)]),
    };
    Request::parse(chain, &guest.memory().memory(), SIZE, read_only)
}

proptest! {
    /// Whatever the header says, what is to be done lies within the disk and its length is that of the data.
    #[test]
    fn accepted_requests_lie_within_the_disk(
        kind in prop_oneof![Just(0u32), Just(1), Just(4), Just(8), Just(11), Just(13), any::<u32>()],
        sector in prop_oneof![0..4096u64, any::<u64>()],
        segment in proptest::collection::vec(prop_oneof![0..8u8, any::<u8>()], 16),
        readable in prop_oneof![Just(16u32), Just(512), 0..0x10_0000u32],
        writable in prop_oneof![Just(513u32), 0..0x10_0000u32],
        read_only: bool,
    ) {
        let guest = Guest::new();
        guest.write(0x2000, &segment);
        let header = [&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat();
        let Some(request) = parse(&guest, &header, readable, writable, read_only) else {
            prop_assert_eq!(writable, 0);
            return Ok(());
        };
        prop_assert_eq!(request.status.len(), 1);
        let changes = match request.operation {
            Ok(Operation::Read { offset }) => {
                prop_assert!(offset + request.data.len() <= SIZE && request.data.len() % SECTOR == 0);
                false
            }
            Ok(Operation::Write { offset }) => {
                prop_assert!(offset + request.data.len() <= SIZE && request.data.len() % SECTOR == 0);
                true
            }
            Ok(Operation::Erase(_, bytes)) => {
                prop_assert!(bytes.start <= bytes.end && bytes.end <= SIZE);
                true
            }
            _ => false,
        };
        prop_assert!(!(changes && read_only));
    }
}

#[test]
fn discards_that_are_too_long_are_refused() {
    let guest = Guest::new();
    for (kind, limit) in [(11u32, MAX_DISCARD_SECTORS), (13, MAX_WRITE_ZEROES_SECTORS)] {
        let header = [&kind.to_le_bytes()[..], &[0; 12]].concat();
        guest.write(
            0x2000,
            &[&[0; 8][..], &(limit + 1).to_le_bytes(), &[0; 4]].concat(),
        );
        let request = parse(&guest, &header, 16, 1, false).unwrap();
        assert_eq!(request.operation, Err(Status::IoError));
        // Two segments, where the configuration space says one.
        assert_eq!(
            parse(&guest, &header, 32, 1, false).unwrap().operation,
            Err(Status::IoError)
        );
    }
}
