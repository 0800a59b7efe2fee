//! The one place that talks to KVM: a VM with its memory and interrupt controllers, the traits by which devices reach
//! the guest, and vCPUs.

pub mod debug;
mod exits;
pub mod failure;
pub mod interrupts;
pub mod notify;
pub mod processors;
pub mod run_control;
mod run_page;
pub mod vcpu;
pub mod vm;
