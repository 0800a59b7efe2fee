//! One virtual machine in one process: the library behind `virga-vmm`, and what the daemon uses to drive it.
//!
//! The way of a VM through these modules:
//!
//! 1. [`args`] and [`config`] say what is wanted; [`launch`] opens the run directory and its sockets.
//! 2. [`builder`] makes the machine: [`memory`], the kernel ([`loader`]), KVM ([`mod@kvm`]), devices ([`attach`]),
//!    tables and registers ([`arch`]).
//! 3. [`sandbox`] gives up privileges; vCPU threads ([`kvm::vcpu`]), the thread that starts device workers
//!    ([`device_manager`]) and the control thread each get their system call filter.
//! 4. [`supervisor`] serves the control socket ([`control`]) and the [`console`] until someone raises the
//!    [`exit_signal`]: the guest ([`power`]), a vCPU, the user. [`exit`] is what it leaves behind.
//!
//! The daemon uses [`config`], [`client`], [`exit`], [`control::state`] and [`probe`]; the first four need neither KVM
//! nor root. Three kinds of threads share little: vCPUs and device workers meet in a device's lock and in event
//! descriptors; the control thread talks to vCPUs through [`kvm::run_control`] alone.

pub mod affinity;
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
pub mod events;
pub mod exit;
pub mod exit_signal;
pub mod faults;
pub mod footprint;
pub mod gdb;
pub mod generation;
pub mod host_file;
pub mod kvm;
pub mod launch;
pub mod loader;
mod lock;
pub mod log;
pub mod mac;
pub mod machine;
pub mod memory;
pub mod power;
pub mod probe;
pub mod process;
pub mod pvpanic;
pub mod sandbox;
pub mod spawn;
pub mod supervisor;
mod unix_path;
pub mod usage;
pub mod watchdog;
