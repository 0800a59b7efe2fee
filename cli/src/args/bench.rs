//! What `virga bench` takes.

use std::path::PathBuf;

use benches::run::{Group, PEERS};
use clap::{Args, ValueEnum, ValueHint};

/// Measurements of Virga beside its peers on this host.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// What to measure [default: everything]
    pub(crate) groups: Vec<GroupName>,
    /// Also write a JSON list of {name, value, unit, peer, peer_value, ratio}
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) json: Option<PathBuf>,
    /// Also draw the ratios
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) svg: Option<PathBuf>,
    /// Rounds of each measurement instead of each group's own number
    #[arg(long, value_name = "N")]
    pub(crate) rounds: Option<usize>,
    /// Folder with bin/ and share/ [default: the one that this program is in]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) dist: Option<PathBuf>,
    /// Unified image for the container, api and launch groups
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) image: Option<PathBuf>,
    /// A peer's program, or the folder its package was unpacked into: qemu, firecracker, cloud-hypervisor, crun, runc, incus
    /// [default: those in PATH]
    #[arg(long, value_name = "NAME=PATH", value_parser = peer)]
    pub(crate) peer: Vec<(String, PathBuf)>,
}

/// The groups' names on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum GroupName {
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

impl From<GroupName> for Group {
    fn from(name: GroupName) -> Self {
        match name {
            GroupName::Vmm => Group::Vmm,
            GroupName::Guest => Group::Guest,
            GroupName::Container => Group::Container,
            GroupName::Api => Group::Api,
            GroupName::Launch => Group::Launch,
        }
    }
}

fn peer(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if PEERS.contains(&name) && !path.is_empty() => Ok((name.to_owned(), path.into())),
        _ => Err(format!(
            "give NAME=PATH with one of these names: {}",
            PEERS.join(", ")
        )),
    }
}
