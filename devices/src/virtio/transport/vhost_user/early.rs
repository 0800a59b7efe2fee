//! Rings that are enabled before features are agreed on.
//!
//! QEMU enables the rings of network cards when it plugs them, long before their driver is there, and waits for the answer.
//! The protocol knows the message only once its feature bit is accepted, and the `vhost` crate refuses it until then
//! without a word. So up to that moment messages are looked at before the crate takes them, and this one is answered here.

use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

/// `VHOST_USER_SET_VRING_ENABLE`.
const SET_VRING_ENABLE: u32 = 18;
/// Version 1 of messages, and the bits of their flags that say what else they are.
const VERSION: u32 = 1;
const REPLY: u32 = 1 << 2;
const NEED_REPLY: u32 = 1 << 3;
/// Bytes before a message's body: request, flags, and the body's length.
const HEADER_LEN: usize = 12;
/// Bytes of the body: a ring's number, and whether it is to be served.
const BODY_LEN: u32 = 8;

/// Waits for a message, and takes it if it enables or disables a ring: `enable` gets the ring and whether it is to be served,
/// and returns whether there is such a ring. Returns whether the message is done with; otherwise it is still there.
pub(super) fn take_enable(
    stream: &mut UnixStream,
    enable: impl FnOnce(u32, bool) -> bool,
) -> io::Result<bool> {
    let mut header = [0_u8; HEADER_LEN];
    // SAFETY: the buffer is ours and as long as is said.
    let len = unsafe {
        libc::recv(
            stream.as_raw_fd(),
            header.as_mut_ptr().cast(),
            HEADER_LEN,
            libc::MSG_PEEK,
        )
    };
    let [request, flags, body_len] = words(&header);
    let known = flags & !NEED_REPLY == VERSION && body_len == BODY_LEN;
    // Errors and the end of the connection show themselves again where messages are taken.
    if len != HEADER_LEN as isize || request != SET_VRING_ENABLE || !known {
        return Ok(false);
    }
    let mut message = [0_u8; HEADER_LEN + BODY_LEN as usize];
    stream.read_exact(&mut message)?;
    let [_, _, _, ring, wanted] = words(&message);
    let done = wanted <= 1 && enable(ring, wanted == 1);
    if flags & NEED_REPLY != 0 {
        let answer = [SET_VRING_ENABLE, VERSION | REPLY, BODY_LEN, u32::from(!done), 0];
        stream.write_all(answer.map(u32::to_ne_bytes).as_flattened())?;
    }
    match done {
        true => Ok(true),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("ring {ring} cannot be set to {wanted}"),
        )),
    }
}

/// The first words of a message; zero where it is shorter.
fn words<const COUNT: usize>(message: &[u8]) -> [u32; COUNT] {
    let mut words = [0; COUNT];
    let (pieces, _) = message.as_chunks::<4>();
    for (word, piece) in words.iter_mut().zip(pieces) {
        *word = u32::from_ne_bytes(*piece);
    }
    words
}
