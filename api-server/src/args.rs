//! The daemon's arguments.

use std::num::NonZeroU8;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use virgad::daemon::Bootstrap;

/// Runs microVMs and system containers behind one HTTP API.
///
/// The API is Incus' REST API on DIR/unix.socket; `virga` and the `incus` client talk to it. Instances are processes
/// of their own: they run on when the daemon ends, and the next daemon finds them again.
#[derive(Debug, Parser)]
#[command(name = "virgad", version, after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Where everything is kept: store, images, storage pools, sockets.
    #[arg(
        long,
        value_name = "DIR",
        env = "VIRGA_STATE_DIR",
        default_value = "/var/lib/virga"
    )]
    pub(crate) state_dir: PathBuf,

    /// Group whose members may use the socket; without it only root may.
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Option<String>,

    /// What to make on the first start.
    #[arg(long, value_enum, default_value_t = BootstrapArg::Auto)]
    pub(crate) bootstrap: BootstrapArg,

    /// How log lines look.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,

    /// Threads that serve requests. Work that waits for disks has threads of its own.
    #[arg(long, value_name = "N", default_value = "2")]
    pub(crate) workers: NonZeroU8,

    /// Log more; twice for everything. VIRGAD_LOG takes a filter (`virgad=debug,network=trace`).
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

const EXAMPLES: &str = "\
Examples:
  virgad                                             on /var/lib/virga, for root
  virgad --group virga                               for members of the group `virga` as well
  virgad --state-dir /tmp/try --bootstrap none -v    an empty one to try things with
  INCUS_SOCKET=/tmp/try/unix.socket incus list       the incus client, talking to it";

/// What to make on the first start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BootstrapArg {
    /// A storage pool `default`, a bridge `virgabr0` and a profile that uses both.
    Auto,
    /// Nothing but an empty profile.
    None,
}

impl From<BootstrapArg> for Bootstrap {
    fn from(value: BootstrapArg) -> Self {
        match value {
            BootstrapArg::Auto => Self::Auto,
            BootstrapArg::None => Self::None,
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}
