//! Any bytes: frames are decoded or refused, and what was decoded survives another round.

#![no_main]

use bytes::BytesMut;
use guest_agent::protocol::FrameCodec;
use libfuzzer_sys::fuzz_target;
use tokio_util::codec::Decoder;

fuzz_target!(|bytes: &[u8]| {
    let mut stream = BytesMut::from(bytes);
    while let Ok(Some(frame)) = FrameCodec.decode(&mut stream) {
        let mut again = BytesMut::new();
        if frame.encode(&mut again).is_ok() {
            assert_eq!(FrameCodec.decode(&mut again).ok().flatten(), Some(frame));
            assert!(again.is_empty());
        }
    }
});
