//! One virtual machine in one process.

pub mod client;
pub mod config;
pub mod control;
pub mod exit;
mod unix_path;
