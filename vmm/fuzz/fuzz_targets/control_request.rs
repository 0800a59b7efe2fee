//! Bytes from a client of the control socket: `cargo +nightly fuzz run control_request`, in the folder `vmm`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vmm::config::NewDevice;
use vmm::control::http::{MAX_BODY_BYTES, MAX_HEAD_BYTES, Parsed, parse};

fuzz_target!(|bytes: &[u8]| match parse(bytes) {
    // A connection may wait for more only as long as its buffer is bounded.
    Parsed::Partial => assert!(bytes.len() < MAX_HEAD_BYTES + MAX_BODY_BYTES),
    Parsed::Request(request) => {
        assert!(request.body.len() <= bytes.len());
        // A device that is taken once can be written and taken again.
        if let Ok(device) = serde_json::from_slice::<NewDevice>(&request.body) {
            let Ok(text) = serde_json::to_vec(&device) else { panic!("what was read can be written") };
            assert_eq!(serde_json::from_slice(&text).ok(), Some(device));
        }
    }
    Parsed::Refused(response) => assert!(response.encode().starts_with(b"HTTP/1.1 ")),
});
