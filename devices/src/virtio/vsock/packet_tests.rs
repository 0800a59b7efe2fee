use super::*;
use proptest::prelude::*;

proptest! {
    #[test]
    fn every_header_survives_encoding(bytes in proptest::collection::vec(any::<u8>(), HEADER_LEN)) {
        let bytes: [u8; HEADER_LEN] = bytes.try_into().unwrap();
        let header = Header::decode(&bytes);
        let again = Header::decode(&header.encode());
        prop_assert_eq!(header, again);
        if header.operation.is_some() {
            prop_assert_eq!(bytes, header.encode());
        }
    }
}

#[test]
fn fields_are_where_the_specification_puts_them() {
    let bytes: [u8; HEADER_LEN] = std::array::from_fn(|index| index as u8);
    let header = Header::decode(&bytes);
    assert_eq!(header.source_cid, 0x0706_0504_0302_0100);
    assert_eq!(header.destination_port, 0x1716_1514);
    assert_eq!(header.socket_type, 0x1d1c);
    assert_eq!(header.operation, None);
    assert_eq!(header.forwarded, 0x2b2a_2928);
}
