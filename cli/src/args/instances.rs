//! Options of the verbs that work on instances.

use clap::Args;

/// Options of `launch` and `create`.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Alias or fingerprint of the image
    pub(crate) image: String,
    /// Name of the instance; one is made up without it
    pub(crate) name: Option<String>,
    /// Make a virtual machine
    #[arg(long)]
    pub(crate) vm: bool,
    /// A configuration key (may be repeated)
    #[arg(long, short, value_name = "KEY=VALUE")]
    pub(crate) config: Vec<String>,
    /// An option of a device (may be repeated)
    #[arg(long, short, value_name = "DEVICE,KEY=VALUE")]
    pub(crate) device: Vec<String>,
    /// A profile (may be repeated; default: the profile "default")
    #[arg(long, short, value_name = "NAME")]
    pub(crate) profile: Vec<String>,
    /// Use no profile at all
    #[arg(long, conflicts_with = "profile")]
    pub(crate) no_profiles: bool,
    /// The network of the first network card
    #[arg(long, short, value_name = "NAME")]
    pub(crate) network: Option<String>,
    /// The storage pool of the root disk
    #[arg(long, short, value_name = "NAME")]
    pub(crate) storage: Option<String>,
    /// Number of CPUs: the key limits.cpu
    #[arg(long, value_name = "N")]
    pub(crate) cpus: Option<String>,
    /// Memory, like 512MiB: the key limits.memory
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<String>,
    /// Delete the instance when it stops
    #[arg(long, short)]
    pub(crate) ephemeral: bool,
    /// A description
    #[arg(long, default_value = "")]
    pub(crate) description: String,
}

/// Options of `list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only names that start with this, or KEY=VALUE (status, type, or any configuration key)
    pub(crate) filter: Vec<String>,
    /// Columns: n name, s state, 4 IPv4, 6 IPv6, t type, S snapshots, P profiles, m memory, p pid, b pool, c created, a architecture
    #[arg(long, short, default_value = "ns46tS")]
    pub(crate) columns: String,
}

/// Options of `info`.
#[derive(Debug, Args)]
pub(crate) struct Info {
    /// Name of the instance; the daemon itself without it
    pub(crate) name: Option<String>,
    /// Also show the instance's log
    #[arg(long)]
    pub(crate) show_log: bool,
}

/// One or more instances.
#[derive(Debug, Args)]
pub(crate) struct Names {
    /// Names of instances
    #[arg(required = true)]
    pub(crate) names: Vec<String>,
}

/// Options of `stop` and `restart`.
#[derive(Debug, Args)]
pub(crate) struct Stop {
    /// Names of instances
    #[arg(required = true)]
    pub(crate) names: Vec<String>,
    /// End it at once, without asking the instance
    #[arg(long, short)]
    pub(crate) force: bool,
    /// Seconds to wait for it to end by itself; -1 waits for ever
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    pub(crate) timeout: i64,
}

/// Options of `exec`.
#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// Name of the instance
    pub(crate) name: String,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
    /// An environment variable (may be repeated)
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) env: Vec<String>,
    /// User id to run as
    #[arg(long, default_value_t = 0)]
    pub(crate) user: u32,
    /// Group id to run as
    #[arg(long, default_value_t = 0)]
    pub(crate) group: u32,
    /// Folder to run in
    #[arg(long, default_value = "")]
    pub(crate) cwd: String,
    /// Give the command a terminal even when there is none here
    #[arg(long, short = 't', conflicts_with = "no_terminal")]
    pub(crate) terminal: bool,
    /// Give the command pipes even when there is a terminal here
    #[arg(long, short = 'T')]
    pub(crate) no_terminal: bool,
    /// Close the command's standard input at once
    #[arg(long, short = 'n')]
    pub(crate) no_stdin: bool,
}

/// Options of `console`.
#[derive(Debug, Args)]
pub(crate) struct Console {
    /// Name of the instance
    pub(crate) name: String,
    /// Print what the console has shown so far instead
    #[arg(long)]
    pub(crate) show_log: bool,
}

/// Options of `delete`.
#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// Names of instances
    #[arg(required = true)]
    pub(crate) names: Vec<String>,
    /// Also running ones: they are ended first
    #[arg(long, short)]
    pub(crate) force: bool,
}

/// Options of `rename`.
#[derive(Debug, Args)]
pub(crate) struct Rename {
    /// Name of the instance
    pub(crate) name: String,
    /// Its new name
    pub(crate) new_name: String,
}

/// Options of `copy`.
#[derive(Debug, Args)]
pub(crate) struct Copy {
    /// The instance, or INSTANCE/SNAPSHOT
    pub(crate) source: String,
    /// Name of the new instance
    pub(crate) name: String,
    /// Copy without the snapshots
    #[arg(long)]
    pub(crate) instance_only: bool,
}
