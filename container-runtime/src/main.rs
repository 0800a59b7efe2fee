//! `virga-run`: makes and supervises containers. See the library's documentation for what each subcommand is.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use container_runtime::oci::{CreateOptions, Runtime};

/// Runs system containers.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes the container of a run directory and supervises it until it ends
    Monitor {
        /// Directory with spec.json
        #[arg(long)]
        run_dir: PathBuf,
    },
    /// Joins a running container and serves the guest agent's protocol on standard input
    Agent {
        /// Directory of the container's monitor
        #[arg(long)]
        run_dir: PathBuf,
    },
    /// Acts as an OCI runtime over bundles with a config.json
    Oci {
        /// Where the containers' state is kept
        #[arg(long, default_value = "/run/virga-oci")]
        root: PathBuf,
        #[command(subcommand)]
        command: OciCommand,
    },
    /// Removes what a monitor that was killed has left
    Cleanup {
        /// Directory of the dead monitor
        #[arg(long)]
        run_dir: PathBuf,
    },
}

#[derive(Args)]
struct CreateArguments {
    /// Directory with config.json
    #[arg(short, long, default_value = ".")]
    bundle: PathBuf,
    /// Socket that receives the terminal's master side
    #[arg(long)]
    console_socket: Option<PathBuf>,
    /// Where to write the pid of the container's process
    #[arg(long)]
    pid_file: Option<PathBuf>,
}

impl From<CreateArguments> for CreateOptions {
    fn from(arguments: CreateArguments) -> Self {
        let CreateArguments {
            bundle,
            console_socket,
            pid_file,
        } = arguments;
        Self {
            bundle,
            console_socket,
            pid_file,
        }
    }
}

#[derive(Subcommand)]
enum OciCommand {
    /// Makes a container that waits to be started
    Create {
        #[command(flatten)]
        options: CreateArguments,
        /// Name of the container
        id: String,
    },
    /// Starts a created container
    Start {
        /// Name of the container
        id: String,
    },
    /// Prints the state of a container
    State {
        /// Name of the container
        id: String,
    },
    /// Signals the process of a container
    Kill {
        /// Name of the container
        id: String,
        /// Name or number
        #[arg(default_value = "TERM")]
        signal: String,
        /// To all processes (with KILL)
        #[arg(short, long)]
        all: bool,
    },
    /// Removes a container that has stopped
    Delete {
        /// Name of the container
        id: String,
        /// Kill it first
        #[arg(short, long)]
        force: bool,
    },
    /// Creates, starts, waits and deletes
    Run {
        #[command(flatten)]
        options: CreateArguments,
        /// Do not wait
        #[arg(short, long)]
        detach: bool,
        /// Name of the container
        id: String,
    },
}

fn oci(root: &std::path::Path, command: OciCommand) -> container_runtime::Result<u8> {
    let runtime = Runtime::new(root);
    match command {
        OciCommand::Create { options, id } => runtime.create(&id, &options.into())?,
        OciCommand::Start { id } => runtime.start(&id)?,
        OciCommand::State { id } => println!("{:#}", runtime.state(&id)?),
        OciCommand::Kill { id, signal, all } => runtime.kill(&id, &signal, all)?,
        OciCommand::Delete { id, force } => runtime.delete(&id, force)?,
        OciCommand::Run { options, detach, id } => {
            return runtime
                .run(&id, &options.into(), detach)
                .map(|status| status as u8);
        }
    }
    Ok(0)
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Monitor { run_dir } => container_runtime::monitor::run(&run_dir),
        Command::Agent { run_dir } => container_runtime::agent::serve(&run_dir),
        Command::Oci { root, command } => match oci(&root, command) {
            Ok(status) => return ExitCode::from(status),
            Err(error) => Err(error),
        },
        Command::Cleanup { run_dir } => container_runtime::cleanup(&run_dir),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("virga-run: {}", error.chain());
            ExitCode::FAILURE
        }
    }
}
