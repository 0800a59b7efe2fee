use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::{der_of_base64, der_of_pem, pem_of_der};

fn sequence(length: usize) -> Vec<u8> {
    let mut der = vec![0x30, 0x82, (length / 256) as u8, (length % 256) as u8];
    der.resize(4 + length, 7);
    der
}

#[test]
fn pem_lines_have_64_characters() {
    let pem = pem_of_der(&sequence(300));
    assert!(pem.lines().all(|line| line.len() <= 64));
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----\n") && pem.ends_with("-----END CERTIFICATE-----\n"));
}

#[test]
fn what_is_no_certificate_is_refused() {
    for text in ["", "hello", "AAAA", "////", &STANDARD.encode([0x30, 0x82, 1, 0])] {
        assert!(der_of_base64(text).is_err(), "{text:?}");
    }
    assert!(der_of_pem("no block here").is_err());
}

proptest! {
    #[test]
    fn pem_and_der_are_each_others_inverse(length in 256_usize..2000) {
        let der = sequence(length);
        prop_assert_eq!(der_of_pem(&pem_of_der(&der)).unwrap(), der.clone());
        prop_assert_eq!(der_of_base64(&STANDARD.encode(&der)).unwrap(), der);
    }

    #[test]
    fn no_text_makes_it_panic(text in ".{0,200}") {
        let _ = der_of_pem(&text);
        let _ = der_of_base64(&text);
    }
}
