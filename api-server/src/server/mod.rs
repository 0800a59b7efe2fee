//! The unix socket: one daemon per state directory, connections, who is at the other end, and a graceful end.

mod connection;
mod identity;
mod listener;
mod lock;
mod notify;

pub use listener::{Listener, serve};
pub use lock::StateLock;
pub use notify::notify_ready;
