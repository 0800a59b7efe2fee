//! One virtual machine in one process.

pub mod arch;
pub mod client;
pub mod config;
pub mod control;
pub mod exit;
pub mod loader;
pub mod memory;
mod unix_path;
