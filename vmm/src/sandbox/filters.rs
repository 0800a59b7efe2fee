//! The compiled system call filters. `build.rs` makes them from the tables in `vmm/seccomp/`.

use libc::sock_filter;

include!(concat!(env!("OUT_DIR"), "/filters.rs"));
