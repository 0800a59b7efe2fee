//! What the process gives up before the guest's first instruction: its user, its capabilities, the way to get any
//! back, and all system calls but those that each kind of thread needs.

pub mod filters;
pub mod privileges;
pub mod seccomp;
