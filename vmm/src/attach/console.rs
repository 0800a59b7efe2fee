//! The virtio console.

use std::io;
use std::os::unix::net::UnixStream;

use devices::virtio::console::{self, Console};

use super::{AttachError, Made, failed};

/// Makes a virtio console. The stream is the host's end of it.
pub(super) fn make() -> Result<(UnixStream, Made), AttachError> {
    let make = || {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        theirs.set_nonblocking(true)?;
        let input = theirs.try_clone()?;
        let device = Console::new(console::Config::default(), Some(input.into()), theirs.into())?;
        Ok::<_, io::Error>((ours, device))
    };
    let (ours, device) = make().map_err(failed("console", "console", "a socket pair"))?;
    Ok((ours, Made::new("console", "console", device)))
}
