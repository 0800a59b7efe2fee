//! Which init system an image has, and which signals it understands.
//!
//! Found out by looking at the image's own `/sbin/init`, with every symbolic link resolved inside the image.

use std::path::Path;

use crate::rootfs::lookup::RootDir;

/// An init system, or a plain program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitSystem {
    /// systemd(1): SIGRTMIN+3 halts, SIGRTMIN+5 reboots ("Signals" in its manual page).
    Systemd,
    /// busybox init: SIGUSR2 powers off, SIGTERM reboots.
    Busybox,
    /// sysvinit, also below OpenRC: SIGPWR runs the `powerfail` action, SIGINT is Ctrl-Alt-Del.
    SysV,
    /// openrc-init: SIGINT shuts down and halts, SIGTERM reboots.
    OpenRc,
    /// runit-init and others that end on SIGCONT are not told apart: a program that ends on SIGTERM.
    Program,
}

impl InitSystem {
    /// Looks at the program that `init` names in the image.
    pub fn detect(rootfs: &Path, init: &[String]) -> Self {
        let Some(program) = init.first() else {
            return Self::Program;
        };
        let Ok(root) = RootDir::open(rootfs) else {
            return Self::Program;
        };
        let Some(path) = root.real_path(program) else {
            return Self::Program;
        };
        let path = path.to_string_lossy();
        let base = path.rsplit('/').next().unwrap_or_default();
        let called = program.rsplit('/').next().unwrap_or_default();
        match base {
            "systemd" => Self::Systemd,
            "openrc-init" => Self::OpenRc,
            // One binary with many names: only as `init` it is one.
            "busybox" | "busybox.static" | "busybox-static" if matches!(called, "init" | "linuxrc") => {
                Self::Busybox
            }
            "busybox" if init.get(1).is_some_and(|applet| applet == "init") => Self::Busybox,
            "init" if called == "init" => {
                if root.contains(program, b"BusyBox v") {
                    Self::Busybox
                } else {
                    Self::SysV
                }
            }
            _ => Self::Program,
        }
    }

    /// The signal that asks for a clean shutdown.
    pub fn stop_signal(self) -> i32 {
        match self {
            Self::Systemd => libc::SIGRTMIN() + 3,
            Self::Busybox => libc::SIGUSR2,
            Self::SysV => libc::SIGPWR,
            Self::OpenRc => libc::SIGINT,
            Self::Program => libc::SIGTERM,
        }
    }

    /// The signal that asks for a reboot from inside, where there is one.
    pub fn reboot_signal(self) -> Option<i32> {
        match self {
            Self::Systemd => Some(libc::SIGRTMIN() + 5),
            Self::Busybox | Self::OpenRc => Some(libc::SIGTERM),
            Self::SysV => Some(libc::SIGINT),
            Self::Program => None,
        }
    }
}

#[cfg(test)]
#[path = "init_tests.rs"]
mod tests;
