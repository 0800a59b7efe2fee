//! What is booted, and how.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::{ConfigError, refuse};
use super::names::Names;

/// Linux' `COMMAND_LINE_SIZE` on x86, less the closing NUL.
pub const MAX_CMDLINE_LEN: usize = 2047;

/// How the kernel is entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootProtocol {
    /// The 64-bit Linux boot protocol (Documentation/arch/x86/boot.rst §1.15).
    Linux64,
    /// PVH: 32-bit protected mode with an `hvm_start_info`.
    Pvh,
}

/// Kernel, initrds and command line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelConfig {
    /// ELF `vmlinux` or bzImage; a path or `fd:N`.
    pub path: PathBuf,
    /// Kernel command line.
    #[serde(default)]
    pub cmdline: String,
    /// Initial RAM file systems: paths or `fd:N`. They are laid out one after the other, each at a page boundary.
    #[serde(default)]
    pub initrd: Vec<PathBuf>,
    /// Boot protocol; without it, `linux64` unless only PVH is possible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<BootProtocol>,
}

impl KernelConfig {
    pub(super) fn check(&self, names: &mut Names) -> Result<(), ConfigError> {
        names.take_path("kernel.path", &self.path)?;
        for (index, path) in self.initrd.iter().enumerate() {
            names.take_path(&format!("kernel.initrd[{index}]"), path)?;
        }
        let cmdline = &self.cmdline;
        if cmdline.len() > MAX_CMDLINE_LEN {
            let problem = format!("the kernel takes at most {MAX_CMDLINE_LEN} bytes");
            return Err(refuse(
                "kernel.cmdline",
                format!("{} bytes long", cmdline.len()),
                problem,
            ));
        }
        if cmdline.chars().any(|c| !c.is_ascii() || c.is_ascii_control()) {
            let problem = "only printable ASCII characters and spaces are allowed";
            return Err(refuse("kernel.cmdline", format!("{cmdline:?}"), problem));
        }
        Ok(())
    }
}
