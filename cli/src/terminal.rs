//! The local terminal: raw mode that is always undone, its size, and changes of it.

use std::io::IsTerminal;
use std::os::fd::AsFd;

use nix::sys::termios::{self, SetArg, Termios};

use crate::error::{Error, Result};

/// Whether both ends of an interactive session are a terminal.
pub(crate) fn is_interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// Width and height in characters of the terminal on standard output; 80 by 25 when it has none.
pub(crate) fn size() -> (u16, u16) {
    nix::ioctl_read_bad!(get_window_size, libc::TIOCGWINSZ, libc::winsize);
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: TIOCGWINSZ writes one `winsize` through the pointer, which is a live local.
    let answered = unsafe { get_window_size(libc::STDOUT_FILENO, &raw mut size) }.is_ok();
    if answered && size.ws_col > 0 {
        (size.ws_col, size.ws_row)
    } else {
        (80, 25)
    }
}

/// The terminal on standard input in raw mode, until dropped.
pub(crate) struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Sets raw mode.
    pub(crate) fn enter() -> Result<Self> {
        let stdin = std::io::stdin();
        let fail = |err: nix::Error| Error::io("set the terminal to raw mode", err.into());
        let before = termios::tcgetattr(stdin.as_fd()).map_err(fail)?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(stdin.as_fd(), SetArg::TCSANOW, &raw).map_err(fail)?;
        Ok(Self { before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // Nothing better can be done about a terminal that is gone.
        let _ = termios::tcsetattr(std::io::stdin().as_fd(), SetArg::TCSADRAIN, &self.before);
    }
}
