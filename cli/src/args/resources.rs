//! Verbs of everything that is not an instance by itself: configuration, images,
//! files, snapshots, profiles, networks, storage, operations and the daemon.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

use super::Names;

/// `virga config`.
#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Print the value of a key
    Get {
        /// [INSTANCE] KEY
        #[arg(num_args = 1..=2, required = true, value_name = "INSTANCE KEY")]
        target: Vec<String>,
    },
    /// Set keys; without an instance, those of the daemon
    #[command(
        after_help = "Examples:\n  virga config set c1 limits.memory=1GiB limits.cpu=2\n  virga config set c1 user.note 'a value'\n  virga config set images.auto_update_interval=0"
    )]
    Set {
        /// [INSTANCE] KEY=VALUE... or INSTANCE KEY VALUE
        #[arg(required = true, value_name = "INSTANCE KEY=VALUE")]
        target: Vec<String>,
    },
    /// Remove a key
    Unset {
        /// [INSTANCE] KEY
        #[arg(num_args = 1..=2, required = true, value_name = "INSTANCE KEY")]
        target: Vec<String>,
    },
    /// Print the whole configuration
    Show {
        /// Name of the instance; the daemon itself without it
        name: Option<String>,
        /// With what the profiles give
        #[arg(long, short)]
        expanded: bool,
    },
    /// Change the configuration in an editor
    Edit {
        /// Name of the instance; the daemon itself without it
        name: Option<String>,
    },
}

/// `virga image`.
#[derive(Debug, Subcommand)]
pub(crate) enum Image {
    /// Add an image from a file: an Incus tarball, or metadata and root file system
    #[command(
        after_help = "Examples:\n  virga image import busybox.tar.gz --alias busybox\n  virga image import metadata.tar.xz rootfs.squashfs --alias debian"
    )]
    Import {
        /// The unified tarball, or the metadata tarball
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// The root file system of the split form
        #[arg(value_hint = ValueHint::FilePath)]
        rootfs: Option<PathBuf>,
        /// A name for the image (may be repeated)
        #[arg(long, value_name = "NAME")]
        alias: Vec<String>,
        /// A property (may be repeated)
        #[arg(long, value_name = "KEY=VALUE")]
        property: Vec<String>,
        /// Anyone may use the image
        #[arg(long)]
        public: bool,
    },
    /// List images
    #[command(visible_alias = "ls")]
    List {
        /// Only images whose alias, fingerprint or description has this text
        filter: Vec<String>,
    },
    /// Show one image
    Info {
        /// Alias or fingerprint
        image: String,
    },
    /// Names of images
    #[command(subcommand)]
    Alias(Alias),
    /// Delete images
    #[command(visible_alias = "rm")]
    Delete {
        /// Aliases or fingerprints
        #[arg(required = true)]
        images: Vec<String>,
    },
}

/// `virga image alias`.
#[derive(Debug, Subcommand)]
pub(crate) enum Alias {
    /// List aliases
    List,
    /// Name an image
    Create {
        /// The new name
        alias: String,
        /// Fingerprint of the image
        fingerprint: String,
    },
    /// Remove a name; the image stays
    Delete {
        /// The name
        alias: String,
    },
    /// Change a name
    Rename {
        /// The name
        alias: String,
        /// The new name
        new_name: String,
    },
}

/// `virga file`.
#[derive(Debug, Subcommand)]
pub(crate) enum File {
    /// Copy local files into an instance
    #[command(
        after_help = "Examples:\n  virga file push index.html web/srv/www/\n  virga file push -r site web/srv/\n  echo hello | virga file push - c1/root/greeting"
    )]
    Push {
        /// Local files (or - for standard input), then INSTANCE/PATH
        #[arg(required = true, num_args = 2.., value_name = "FILE INSTANCE/PATH")]
        paths: Vec<String>,
        /// Folders with all that is in them
        #[arg(long, short)]
        recursive: bool,
        /// Make the folders that lead there
        #[arg(long, short = 'p')]
        create_dirs: bool,
        /// Permissions, like 644
        #[arg(long, value_parser = parse_mode)]
        mode: Option<u32>,
        /// Owner's user id
        #[arg(long)]
        uid: Option<u32>,
        /// Owner's group id
        #[arg(long)]
        gid: Option<u32>,
    },
    /// Copy files out of an instance
    #[command(
        after_help = "Examples:\n  virga file pull c1/etc/hosts .\n  virga file pull -r c1/var/log logs\n  virga file pull c1/etc/hosts -"
    )]
    Pull {
        /// INSTANCE/PATH..., then a local path (or - for standard output)
        #[arg(required = true, num_args = 2.., value_name = "INSTANCE/PATH FILE")]
        paths: Vec<String>,
        /// Folders with all that is in them
        #[arg(long, short)]
        recursive: bool,
    },
}

fn parse_mode(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777)
        .ok_or_else(|| format!("'{text}' is no file mode; write it in octal, like 644"))
}

/// `virga snapshot`.
#[derive(Debug, Subcommand)]
pub(crate) enum Snapshot {
    /// Take a snapshot
    Create {
        /// Name of the instance
        instance: String,
        /// Name of the snapshot; numbered without it
        name: Option<String>,
    },
    /// List an instance's snapshots
    #[command(visible_alias = "ls")]
    List {
        /// Name of the instance
        instance: String,
    },
    /// Put the instance back to a snapshot
    Restore {
        /// Name of the instance
        instance: String,
        /// Name of the snapshot
        name: String,
    },
    /// Delete snapshots
    #[command(visible_alias = "rm")]
    Delete {
        /// Name of the instance
        instance: String,
        /// Names of snapshots
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Rename a snapshot
    Rename {
        /// Name of the instance
        instance: String,
        /// Name of the snapshot
        name: String,
        /// Its new name
        new_name: String,
    },
}

/// `virga profile`.
#[derive(Debug, Subcommand)]
pub(crate) enum Profile {
    /// List profiles
    #[command(visible_alias = "ls")]
    List,
    /// Show one profile
    Show {
        /// Name of the profile
        name: String,
    },
}

/// `virga network`.
#[derive(Debug, Subcommand)]
pub(crate) enum Network {
    /// List networks
    #[command(visible_alias = "ls")]
    List,
    /// Show one network
    Show {
        /// Name of the network
        name: String,
    },
    /// Create a managed bridge
    #[command(
        after_help = "Example:\n  virga network create br1 ipv4.address=10.20.30.1/24 ipv6.address=none"
    )]
    Create {
        /// Name of the network
        name: String,
        /// Configuration keys
        #[arg(value_name = "KEY=VALUE")]
        config: Vec<String>,
        /// A description
        #[arg(long, default_value = "")]
        description: String,
    },
    /// Delete networks
    #[command(visible_alias = "rm")]
    Delete(Names),
}

/// `virga storage`.
#[derive(Debug, Subcommand)]
pub(crate) enum Storage {
    /// List storage pools
    #[command(visible_alias = "ls")]
    List,
    /// Show one pool, its space and what uses it
    Info {
        /// Name of the pool
        name: String,
    },
    /// Create a pool
    #[command(after_help = "Example:\n  virga storage create fast btrfs source=/mnt/nvme")]
    Create {
        /// Name of the pool
        name: String,
        /// Driver: dir or btrfs
        driver: String,
        /// Configuration keys
        #[arg(value_name = "KEY=VALUE")]
        config: Vec<String>,
        /// A description
        #[arg(long, default_value = "")]
        description: String,
    },
    /// Delete pools
    #[command(visible_alias = "rm")]
    Delete(Names),
}

/// `virga operation`.
#[derive(Debug, Subcommand)]
pub(crate) enum Operation {
    /// List running operations
    #[command(visible_alias = "ls")]
    List,
    /// Show one operation
    Show {
        /// Id of the operation
        id: String,
    },
    /// Cancel an operation
    #[command(alias = "delete")]
    Cancel {
        /// Id of the operation
        id: String,
    },
}

/// Options of `monitor`.
#[derive(Debug, Args)]
pub(crate) struct Monitor {
    /// Kinds of events (may be repeated; default: all)
    #[arg(long = "type", value_name = "logging|operation|lifecycle")]
    pub(crate) types: Vec<String>,
    /// Of every project
    #[arg(long)]
    pub(crate) all_projects: bool,
}

/// `virga daemon`.
#[derive(Debug, Subcommand)]
pub(crate) enum Daemon {
    /// Is it there, and since when?
    Status,
    /// Run it in the foreground: the same as `virgad ARGS`
    Run {
        /// Arguments of virgad
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// End it; the instances run on
    Stop,
}

/// Options of `query`.
#[derive(Debug, Args)]
pub(crate) struct Query {
    /// Path, like /1.0/instances
    pub(crate) path: String,
    /// HTTP method
    #[arg(long, short = 'X', default_value = "GET", value_name = "METHOD")]
    pub(crate) request: String,
    /// JSON body
    #[arg(long, short, value_name = "JSON")]
    pub(crate) data: Option<String>,
    /// Wait for the operation that the request starts
    #[arg(long)]
    pub(crate) wait: bool,
}
