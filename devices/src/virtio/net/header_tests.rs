use super::*;
use proptest::prelude::*;

const ALL: u64 = 1 << CSUM | 1 << HOST_TSO4 | 1 << HOST_TSO6 | 1 << HOST_ECN | 1 << HOST_UFO | 1 << HOST_USO;

fn segmented(gso_type: u8) -> Header {
    Header {
        flags: NEEDS_CSUM,
        gso_type,
        hdr_len: 54,
        gso_size: 1448,
        csum_start: 34,
        csum_offset: 16,
    }
}

#[test]
fn what_was_agreed_on_passes_unchanged() {
    for gso_type in [
        gso::TCPV4,
        gso::TCPV6,
        gso::UDP,
        gso::UDP_L4,
        gso::TCPV4 | gso::ECN,
    ] {
        let header = segmented(gso_type);
        assert_eq!(header.checked(ALL, 9000), Some(header));
    }
    let checksum = Header {
        gso_type: gso::NONE,
        gso_size: 0,
        hdr_len: 0,
        ..segmented(0)
    };
    assert_eq!(checksum.checked(1 << CSUM, 60), Some(checksum));
    assert_eq!(Header::default().checked(0, 60), Some(Header::default()));
}

#[test]
fn what_was_not_agreed_on_is_refused() {
    for (gso_type, bit) in [
        (gso::TCPV4, HOST_TSO4),
        (gso::TCPV6, HOST_TSO6),
        (gso::UDP, HOST_UFO),
        (gso::UDP_L4, HOST_USO),
        (gso::TCPV6 | gso::ECN, HOST_ECN),
        (gso::NONE, CSUM),
    ] {
        assert_eq!(
            segmented(gso_type).checked(ALL & !(1 << bit), 9000),
            None,
            "{gso_type}"
        );
    }
}

#[test]
fn headers_that_make_no_sense_are_refused() {
    let good = segmented(gso::TCPV4);
    for (why, bad) in [
        ("segments of nothing", Header { gso_size: 0, ..good }),
        ("no checksum", Header { flags: 0, ..good }),
        (
            "ECN of UDP",
            Header {
                gso_type: gso::UDP | gso::ECN,
                ..good
            },
        ),
        (
            "ECN of nothing",
            Header {
                gso_type: gso::ECN,
                ..good
            },
        ),
        ("unknown", Header { gso_type: 2, ..good }),
        (
            "beyond the end",
            Header {
                csum_start: 8990,
                ..good
            },
        ),
        (
            "far beyond the end",
            Header {
                csum_start: u16::MAX,
                csum_offset: u16::MAX,
                ..good
            },
        ),
    ] {
        assert_eq!(bad.checked(ALL, 9000), None, "{why}");
    }
    let hint = Header {
        hdr_len: 60_000,
        ..good
    };
    assert_eq!(hint.checked(ALL, 9000).unwrap().hdr_len, 9000);
    // Bits of the other direction are of no interest.
    let flags = Header {
        flags: 0xfe,
        ..Header::default()
    };
    assert_eq!(flags.checked(0, 60), Some(Header::default()));
}

proptest! {
    #[test]
    fn whatever_passes_is_within_the_frame_and_the_features(bytes: [u8; HEADER_LEN], features: u64, len in 1_u64..70_000) {
        let Some(header) = Header::decode(bytes).checked(features, len) else { return Ok(()) };
        prop_assert_eq!(Header::decode(header.encode()), header);
        prop_assert_eq!(header.flags & !NEEDS_CSUM, 0);
        prop_assert!(u64::from(header.hdr_len) <= len);
        if header.flags != 0 {
            prop_assert!(features::has(features, CSUM));
            prop_assert!(u64::from(header.csum_start) + u64::from(header.csum_offset) + 2 <= len);
        }
        prop_assert_eq!(header.gso_type == gso::NONE, header.gso_size == 0);
        // Passing once is passing for good.
        prop_assert_eq!(header.checked(features, len), Some(header));
    }
}
