//! What can be typed. Only shapes and words: `commands` gives them meaning.

mod bench;
mod instances;
mod resources;

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueHint};
use clap_complete::Shell;

use crate::client::DEFAULT_SOCKET;
use crate::output::Format;

pub(crate) use bench::*;
pub(crate) use instances::*;
pub(crate) use resources::*;

/// MicroVMs and system containers on this host.
#[derive(Debug, Parser)]
#[command(
    name = "virga",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    after_help = "\
Examples:
  virga image import busybox.tar.gz --alias busybox
  virga launch busybox c1                 a container
  virga launch busybox v1 --vm            a microVM of the same image
  virga exec c1 -- ls -l /
  virga list --format json
  virga delete --force c1 v1

The daemon is found by --socket, $VIRGA_SOCKET, $INCUS_SOCKET or /var/lib/virga/unix.socket.
Exit status: 0 done, 1 refused or failed, 2 wrong usage, 3 no daemon; `exec` gives the command's own."
)]
pub(crate) struct Cli {
    /// The daemon's unix socket
    #[arg(long, global = true, value_name = "PATH", value_hint = ValueHint::FilePath)]
    socket: Option<PathBuf>,
    /// The project to work in
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) project: Option<String>,
    /// How lists and documents are printed
    #[arg(long, short, global = true, value_enum, default_value_t)]
    pub(crate) format: Format,
    /// No progress and no remarks, only results and errors
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// What to do
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// The socket to talk to: the option, the environment, or the default.
    pub(crate) fn socket(&self) -> PathBuf {
        self.socket
            .clone()
            .or_else(|| {
                std::env::var_os("VIRGA_SOCKET")
                    .filter(|v| !v.is_empty())
                    .map(PathBuf::from)
            })
            .or_else(|| {
                std::env::var_os("INCUS_SOCKET")
                    .filter(|v| !v.is_empty())
                    .map(PathBuf::from)
            })
            .unwrap_or_else(|| DEFAULT_SOCKET.into())
    }
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create an instance from an image and start it
    #[command(
        after_help = "Examples:\n  virga launch debian web -c limits.memory=512MiB\n  virga launch debian db --vm --cpus 2 --memory 1GiB\n  virga launch busybox --ephemeral"
    )]
    Launch(Create),
    /// Create an instance from an image without starting it
    Create(Create),
    /// List instances
    #[command(visible_alias = "ls")]
    List(List),
    /// Show one instance's state, or the daemon's with no name
    Info(Info),
    /// Start instances
    Start(Names),
    /// Stop instances
    Stop(Stop),
    /// Restart instances
    Restart(Stop),
    /// Freeze instances: their processes stand still, their memory stays
    #[command(alias = "pause")]
    Freeze(Names),
    /// Let frozen instances go on
    #[command(alias = "resume")]
    Unfreeze(Names),
    /// Run a command in an instance
    #[command(
        after_help = "Examples:\n  virga exec c1 -- uname -a\n  virga exec c1 bash\n  tar c . | virga exec c1 -- tar x -C /srv\n  virga exec v1 --user 1000 --cwd /home --env LANG=C -- id"
    )]
    Exec(Exec),
    /// Attach to an instance's console, or show its log
    Console(Console),
    /// Delete instances
    #[command(visible_alias = "rm")]
    Delete(Delete),
    /// Rename an instance
    Rename(Rename),
    /// Copy an instance or a snapshot to a new instance
    #[command(visible_alias = "cp")]
    Copy(Copy),
    /// Read and change configuration of instances and of the daemon
    #[command(subcommand)]
    Config(Config),
    /// Images
    #[command(subcommand)]
    Image(Image),
    /// Files in instances
    #[command(subcommand)]
    File(File),
    /// Snapshots of instances
    #[command(subcommand)]
    Snapshot(Snapshot),
    /// Profiles
    #[command(subcommand)]
    Profile(Profile),
    /// Networks
    #[command(subcommand)]
    Network(Network),
    /// Storage pools
    #[command(subcommand)]
    Storage(Storage),
    /// Running operations
    #[command(subcommand)]
    Operation(Operation),
    /// Follow what happens on the daemon
    Monitor(Monitor),
    /// Send a request to the API as it is
    #[command(
        after_help = "Examples:\n  virga query /1.0/instances?recursion=1\n  virga query -X POST /1.0/profiles --data '{\"name\": \"p1\"}'"
    )]
    Query(Query),
    /// Say what this host can do, and what each lack costs
    Doctor,
    /// Measure this host: Virga beside its peers, with ratios
    #[command(
        after_help = "Examples:\n  virga bench vmm\n  virga bench guest --json guest.json --svg guest.svg\n  virga bench vmm --peer firecracker=/opt/firecracker --rounds 50\n\nWhat cannot be measured here is listed with the reason. Needs root for all but the vmm group."
    )]
    Bench(Bench),
    /// The daemon itself
    #[command(subcommand)]
    Daemon(Daemon),
    /// Print a shell's completion script
    #[command(after_help = "Example:\n  virga completion bash > /etc/bash_completion.d/virga")]
    Completion {
        /// The shell
        shell: Shell,
    },
}
