//! Virga's presence inside an instance, and the daemon's way to talk to it.
//!
//! The same protocol serves virtual machines (over vsock) and containers (over a socket pair into the container's
//! namespaces): run commands, exchange files, ask for state, shut down.
//!
//! - [`protocol`]: the frames; [`state`]: what an instance tells about itself;
//! - [`client`]: the daemon's side, async;
//! - [`server`]: the instance's side: one future that serves one connection;
//! - [`config`] and [`initrd`]: how the daemon hands a microVM its agent and its identity;
//! - [`microvm`]: the agent as first process of a microVM;
//! - [`listen`]: where an agent waits for connections;
//! - [`socket`]: unix sockets at paths of any length.

pub mod client;
pub mod config;
pub mod initrd;
pub mod listen;
pub mod microvm;
pub mod protocol;
pub mod server;
pub mod socket;
pub mod state;
