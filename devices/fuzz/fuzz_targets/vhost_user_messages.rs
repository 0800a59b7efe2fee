//! Any messages to a vhost-user back end: it ends in order, and its device rests afterwards.

#![no_main]

use devices::virtio::rng::{self, Rng};
use devices::virtio::transport::vhost_user::serve;
use devices::virtio::worker::{Virtio, no_hook};
use libfuzzer_sys::fuzz_target;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

fuzz_target!(|data: &[u8]| {
    let (mut ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    ours.set_nonblocking(true).expect("a socket");
    // Each message is a request, a length and as many bytes; the header around them is made right more often than not.
    let mut rest = data;
    while let [request, len, body @ ..] = rest {
        let (body, after) = body.split_at(body.len().min(usize::from(*len)));
        let header = [u32::from(*request) % 48, 1, body.len() as u32].map(u32::to_ne_bytes);
        let _ = ours.write_all(&[header.as_flattened(), body].concat());
        rest = after;
    }
    let _ = ours.shutdown(Shutdown::Write);
    let (device, _) = serve(
        Box::new(Virtio::new(Rng::new(rng::Config::default()))),
        theirs,
        no_hook(),
    );
    device.expect("the device comes back").save().expect("it rests");
});
