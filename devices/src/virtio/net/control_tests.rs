use super::*;
use crate::testing::Guest;
use crate::virtio::buffer::Segment;
use proptest::prelude::*;
use vm_memory::{GuestAddress, GuestAddressSpace};

const ALL: u64 = 1 << CTRL_RX
    | 1 << CTRL_RX_EXTRA
    | 1 << CTRL_MAC_ADDR
    | 1 << GUEST_ANNOUNCE
    | 1 << MQ
    | 1 << CTRL_GUEST_OFFLOADS;

/// Puts a command into memory in pieces of `piece` bytes and reads it.
fn read_in_pieces(command: &[u8], piece: usize, features: u64) -> Option<Command> {
    let guest = Guest::new();
    let segments = command.chunks(piece.max(1)).map(|chunk| {
        let address = guest.alloc(chunk.len() as u64);
        guest.write(address, chunk);
        Segment {
            address: GuestAddress(address),
            len: chunk.len() as u32,
        }
    });
    let buffer = Buffer::new(segments.collect::<Vec<_>>());
    Command::read(buffer, &guest.memory().memory(), features)
}

fn read(command: &[u8]) -> Option<Command> {
    read_in_pieces(command, 2, ALL)
}

fn tables(unicast: &[Address], multicast: &[Address]) -> Vec<u8> {
    let mut bytes = vec![class::MAC, 0];
    for table in [unicast, multicast] {
        bytes.extend((table.len() as u32).to_le_bytes());
        bytes.extend(table.as_flattened());
    }
    bytes
}

#[test]
fn every_command_is_read() {
    for (bytes, command) in [
        (&[0, 0, 1][..], Command::Mode(Mode::Promiscuous, true)),
        (&[0, 1, 0], Command::Mode(Mode::AllMulticast, false)),
        (&[0, 2, 1], Command::Mode(Mode::AllUnicast, true)),
        (&[0, 3, 1], Command::Mode(Mode::NoMulticast, true)),
        (&[0, 4, 1], Command::Mode(Mode::NoUnicast, true)),
        (&[0, 5, 7], Command::Mode(Mode::NoBroadcast, true)),
        (&[1, 1, 2, 0, 0, 0, 0, 9], Command::Address([2, 0, 0, 0, 0, 9])),
        (&[3, 0], Command::Announced),
        (&[4, 0, 2, 1], Command::Pairs(0x102)),
        (&[5, 0, 0x82, 0, 0, 0, 0, 0, 0, 0], Command::Offloads(0x82)),
    ] {
        assert_eq!(read(bytes), Some(command));
    }
}

#[test]
fn commands_that_are_cut_short_unknown_or_not_agreed_on_are_refused() {
    let whole: [&[u8]; 6] = [
        &[0, 0, 1],
        &[0, 2, 1],
        &[1, 1, 2, 0, 0, 0, 0, 9],
        &[3, 0],
        &[4, 0, 2, 0],
        &[5, 0, 2, 0, 0, 0, 0, 0, 0, 0],
    ];
    for command in whole {
        for len in 0..command.len() {
            assert_eq!(read(&command[..len]), None);
        }
        assert_eq!(read_in_pieces(command, 64, 0), None);
    }
    for unknown in [
        [0, 6, 1],
        [2, 0, 1],
        [3, 1, 1],
        [4, 1, 1],
        [6, 0, 1],
        [255, 255, 255],
    ] {
        assert_eq!(read(&unknown), None);
    }
}

#[test]
fn tables_are_kept_up_to_their_limit() {
    let address = |number: usize| [2, 0, 0, 0, (number >> 8) as u8, number as u8];
    let group = [0x33, 0x33, 0, 0, 0, 1];
    for count in [0, 1, MAX_ADDRESSES, MAX_ADDRESSES + 1, 1000] {
        let unicast: Vec<_> = (0..count).map(address).collect();
        let Some(Command::Tables {
            unicast: kept,
            multicast,
        }) = read(&tables(&unicast, &[group]))
        else {
            panic!("{count} addresses are refused");
        };
        assert_eq!(kept.addresses, unicast[..count.min(MAX_ADDRESSES)]);
        assert_eq!(kept.overflowed, count > MAX_ADDRESSES);
        assert_eq!(multicast.addresses, [group]);
    }
}

#[test]
fn tables_that_claim_more_than_there_is_are_refused() {
    for count in [2, MAX_ADDRESSES as u32 + 2, u32::MAX] {
        let mut bytes = tables(&[[2; 6]], &[]);
        bytes[2..6].copy_from_slice(&count.to_le_bytes());
        assert_eq!(read(&bytes), None, "{count}");
    }
    assert_eq!(read(&[1, 0]), None);
    assert_eq!(read(&[1, 0, 0, 0, 0, 0]), None);
}

#[test]
fn commands_outside_of_memory_are_refused() {
    let guest = Guest::new();
    let segments = vec![Segment {
        address: GuestAddress(1 << 50),
        len: 64,
    }];
    let ram = guest.memory().memory();
    assert_eq!(Command::read(Buffer::new(segments), &ram, ALL), None);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(command in prop::collection::vec(any::<u8>(), 0..600), class in 0_u8..7, number in 0_u8..7,
                                     piece in 1_usize..64, features: u64) {
        let command = [&[class, number][..], &command].concat();
        let read = read_in_pieces(&command, piece, features);
        // However it is scattered, it is the same command.
        prop_assert_eq!(&read, &read_in_pieces(&command, command.len(), features));
        if let Some(Command::Tables { unicast, multicast }) = read {
            for table in [unicast, multicast] {
                prop_assert!(table.addresses.len() <= MAX_ADDRESSES);
                prop_assert!(!table.overflowed || table.addresses.len() == MAX_ADDRESSES);
            }
        }
    }
}
