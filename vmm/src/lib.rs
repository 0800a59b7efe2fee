//! One virtual machine in one process.

pub mod arch;
pub mod args;
pub mod attach;
pub mod builder;
pub mod client;
pub mod clock;
pub mod config;
pub mod console;
pub mod console_log;
pub mod control;
pub mod device_manager;
pub mod exit;
pub mod exit_signal;
pub mod kvm;
pub mod launch;
pub mod loader;
pub mod machine;
pub mod memory;
pub mod power;
pub mod probe;
pub mod sandbox;
pub mod supervisor;
mod unix_path;
pub mod usage;
