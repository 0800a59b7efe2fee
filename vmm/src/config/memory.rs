//! Guest memory: how it is made, beside how much of it there is.

use serde::{Deserialize, Serialize};

/// How guest memory is made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryConfig {
    /// Other processes may map the memory by descriptor (memfd), as vhost-user needs it. Kernel and initrd are copied
    /// then; in private memory they are mapped copy-on-write.
    #[serde(default)]
    pub shared: bool,
}
