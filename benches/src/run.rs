//! One run: the groups that were asked for, the table, the files.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::machine::Machine;
use crate::report::{self, Figure};
use crate::setting::Setting;
use crate::{api, container, guest, interrupt, launch, plot, vmm};

/// Things that are measured together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Start, memory and size of the VMM beside QEMU's microvm
    Vmm,
    /// Boot, disk and network of a Linux guest beside QEMU's microvm and q35
    Guest,
    /// Containers by the OCI command line beside crun and runc
    Container,
    /// Requests to the API beside Incus
    Api,
    /// Launch, exec and delete through the API beside Incus
    Launch,
}

/// All groups, in the order in which they are measured.
pub const GROUPS: [Group; 5] = [
    Group::Vmm,
    Group::Guest,
    Group::Container,
    Group::Api,
    Group::Launch,
];

/// Names of the peers.
pub const PEERS: [&str; 6] = ["qemu", "firecracker", "cloud-hypervisor", "crun", "runc", "incus"];

/// What a run leaves behind.
#[derive(Debug, Clone, Default)]
pub struct Files {
    /// A JSON list of `{name, value, unit, peer, peer_value, ratio}`.
    pub json: Option<PathBuf>,
    /// A picture of the ratios.
    pub svg: Option<PathBuf>,
}

/// Measures, and writes the files. Returns the figures and a line about the machine.
pub fn run(setting: &Setting, groups: &[Group], files: &Files) -> Result<(Vec<Figure>, String)> {
    interrupt::install()?;
    let machine = Machine::note();
    let mut rows = Vec::new();
    for group in groups {
        let measured = match group {
            Group::Vmm => vmm::measure(setting),
            Group::Guest => guest::measure(setting),
            Group::Container => container::measure(setting),
            Group::Api => api::measure(setting),
            Group::Launch => launch::measure(setting),
        };
        rows.extend(measured.with_context(|| format!("cannot measure {group:?}").to_lowercase())?);
    }
    let figures = report::figures(&rows);
    if figures.is_empty() {
        bail!("nothing was measured");
    }
    let machine = machine.describe();
    let write = |path: &PathBuf, text: String| {
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    if let Some(path) = &files.json {
        write(path, serde_json::to_string_pretty(&figures)? + "\n")?;
    }
    if let Some(path) = &files.svg {
        write(path, plot::svg(&figures, &machine))?;
    }
    Ok((figures, machine))
}
