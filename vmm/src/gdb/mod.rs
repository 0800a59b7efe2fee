//! A debugger's way into the guest: gdb's remote protocol on a unix socket, for `target remote`.
//!
//! A thread of its own, the [`server`], serves one client at a time with a [`session`]. The protocol is the crate
//! `gdbstub`'s; what it asks for is done by the [`target`]: all vCPUs are threads of one process, with their
//! [`registers`], the [`memory`] that they see and [`breakpoints`]. vCPU threads know nothing but the [`link`], over which
//! they tell that they have stopped. Without `gdb` in the configuration there is neither thread nor link.
//!
//! From a client's first packet until it goes, all vCPUs either stand still or run, and whoever pauses the VM has a say of
//! its own: see [`run_control`](crate::kvm::run_control). Devices go on while vCPUs stand still, but for the watchdog. A client
//! that goes, however it does, leaves no breakpoint behind, and the guest goes on.

pub mod breakpoints;
pub mod debuggees;
pub mod link;
pub mod memory;
pub mod registers;
pub mod server;
pub mod session;
pub mod target;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
