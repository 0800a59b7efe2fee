//! Capabilities: which ones a container never has, and giving up the others.

use std::str::FromStr;

use capctl::caps::{Cap, CapSet, CapState, ambient, bounding};

use crate::{Error, Result};

/// What no container gets: the kernel's modules, raw I/O, its clock and its mandatory access control are the host's alone. An
/// init system in its own user namespace keeps the rest, which the kernel then grants over the namespace's own things only.
const NEVER: &[Cap] = &[
    Cap::SYS_MODULE,
    Cap::SYS_RAWIO,
    Cap::SYS_TIME,
    Cap::MAC_ADMIN,
    Cap::MAC_OVERRIDE,
    Cap::WAKE_ALARM,
    Cap::BLOCK_SUSPEND,
];

/// What a privileged container loses as well: without a user namespace these reach the host.
const NEVER_PRIVILEGED: &[Cap] = &[
    Cap::SYSLOG,
    Cap::SYS_PACCT,
    Cap::BPF,
    Cap::PERFMON,
    Cap::CHECKPOINT_RESTORE,
];

/// The five capability sets of a process, capabilities(7).
#[derive(Debug, Clone, Copy)]
pub struct CapabilitySets {
    /// The limit for everything that will ever be executed.
    pub bounding: CapSet,
    /// In force.
    pub effective: CapSet,
    /// Can be made effective.
    pub permitted: CapSet,
    /// Kept over exec of files that have them inheritable.
    pub inheritable: CapSet,
    /// Kept over exec by programs without file capabilities.
    pub ambient: CapSet,
}

/// Finds a capability by name, with or without `CAP_`, in any case.
pub fn by_name(name: &str) -> Option<Cap> {
    let upper = name.to_ascii_uppercase();
    let full = if upper.starts_with("CAP_") {
        upper
    } else {
        format!("CAP_{upper}")
    };
    Cap::from_str(&full).ok()
}

impl CapabilitySets {
    /// What a system container's init gets.
    pub fn system(privileged: bool, drop: &[String]) -> Result<Self> {
        let mut keep = CapSet::empty();
        keep.add_all(Cap::probe_supported().iter());
        keep.drop_all(NEVER.iter().copied());
        if privileged {
            keep.drop_all(NEVER_PRIVILEGED.iter().copied());
        }
        for name in drop {
            let cap = by_name(name)
                .ok_or_else(|| Error::spec("drop_capabilities", format!("{name:?} is not a capability")))?;
            keep.drop(cap);
        }
        Ok(Self {
            bounding: keep,
            effective: keep,
            permitted: keep,
            inheritable: CapSet::empty(),
            ambient: CapSet::empty(),
        })
    }

    /// Nothing at all.
    pub(crate) fn none() -> Self {
        let none = CapSet::empty();
        Self {
            bounding: none,
            effective: none,
            permitted: none,
            inheritable: none,
            ambient: none,
        }
    }

    /// Narrows the bounding set. Needs `CAP_SETPCAP`, so it comes before [`Self::apply`].
    pub(crate) fn bound(&self) -> capctl::Result<()> {
        for cap in Cap::probe_supported().iter() {
            if !self.bounding.has(cap) && bounding::read(cap) == Some(true) {
                bounding::drop(cap)?;
            }
        }
        Ok(())
    }

    /// Sets the process' own sets; only ever narrows them to what it has.
    pub(crate) fn apply(&self) -> capctl::Result<()> {
        let have = CapState::get_current()?.permitted;
        let permitted = self.permitted & have;
        CapState {
            effective: self.effective & permitted,
            permitted,
            inheritable: self.inheritable & self.bounding,
        }
        .set_current()?;
        // Ambient capabilities must be permitted and inheritable, capabilities(7).
        ambient::clear()?;
        for cap in (self.ambient & permitted & self.inheritable).iter() {
            ambient::raise(cap)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "caps_tests.rs"]
mod tests;
