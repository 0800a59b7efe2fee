//! System call filters: a small compiler from rules to classic BPF (seccomp(2)), and the default filter of system containers.
//!
//! The filter of a system container refuses a list of calls and lets the rest pass, so that any init system runs; that of an OCI
//! bundle is whatever its `config.json` says. 32-bit programs are filtered by their own numbers; the x32 ABI, whose numbers
//! would slip past every rule, is refused as a whole.

mod compile;
pub(crate) mod default;
pub(crate) mod syscalls;

pub(crate) use compile::{Comparison, Filter, Operator, Rule};

use std::io;

use crate::sys::done;

/// A compiled filter.
pub(crate) type Program = Vec<libc::sock_filter>;

/// `SECCOMP_SET_MODE_FILTER` of seccomp(2).
const SET_MODE_FILTER: libc::c_uint = 1;

/// Puts this process and all its descendants under the filter. Needs `no_new_privs` or `CAP_SYS_ADMIN` in its user namespace.
pub(crate) fn install(program: &Program, flags: u64) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?;
    let program = libc::sock_fprog {
        len: length,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the program is valid for the call; the kernel copies and checks it.
    done(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            SET_MODE_FILTER,
            flags,
            std::ptr::from_ref(&program),
        )
    })
}

#[cfg(test)]
#[path = "seccomp_tests.rs"]
mod tests;
