//! `virga-run`: makes and supervises containers. See the library's documentation for what each subcommand is.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
    /// Removes what a monitor that was killed has left
    Cleanup {
        /// Directory of the dead monitor
        #[arg(long)]
        run_dir: PathBuf,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Monitor { run_dir } => container_runtime::monitor::run(&run_dir),
        Command::Agent { run_dir } => container_runtime::agent::serve(&run_dir),
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
