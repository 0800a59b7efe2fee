//! `virga`: the command line of Virga.
//!
//! It speaks Incus' REST API over the daemon's unix socket and nothing else:
//! what it can do, any other client of that API can do. `args` says what the
//! user can type, `commands` does it, `client` talks to the daemon and `output`
//! prints. Exit codes: 0 success, 1 the request failed, 2 wrong usage, 3 the
//! daemon cannot be reached; `exec` passes the command's own status through.

mod args;
mod client;
mod commands;
mod error;
mod output;
mod progress;
mod terminal;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = args::Cli::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(err) => return error::report(&error::Error::io("start the event loop", err)),
    };
    let code = match runtime.block_on(commands::run(cli)) {
        Ok(code) => ExitCode::from(code),
        Err(err) => error::report(&err),
    };
    // A blocked read of standard input must not hold the process at its end.
    runtime.shutdown_background();
    code
}
