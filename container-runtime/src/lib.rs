//! System containers without a daemon in their life.
//!
//! A container is a plain root file system directory, a [`spec::ContainerSpec`] and one small *monitor* process
//! (`virga-run monitor`) that creates the namespaces, holds the console and the control socket, reaps the init process and
//! writes down how it ended. The daemon talks to monitors with [`client::Client`], joins containers with [`agent::attach`]
//! and removes what a dead monitor left with [`cleanup`].
//!
//! The same creation code serves `virga-run oci`, an OCI runtime command line.
//!
//! Only `spec`, `state`, `client`, `agent::attach`, `init` and `cleanup` are meant for multi-threaded callers; what creates
//! namespaces (`launch`, `monitor`, `oci`) forks without exec and therefore belongs into the single-threaded `virga-run`.

pub mod agent;
pub mod caps;
mod cgroup;
mod cleanup;
pub mod client;
pub mod error;
pub mod http;
pub mod init;
mod join;
mod launch;
pub mod monitor;
pub mod oci;
pub mod process;
pub mod rootfs;
pub mod run_dir;
mod seccomp;
pub mod socket;
pub mod spec;
pub mod state;
mod sys;

pub use cleanup::cleanup;
pub use error::{Error, Result};
