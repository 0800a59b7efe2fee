//! `virga-vmm`: runs one VM in this process. See `virga-vmm --help`.

use std::process::ExitCode;

use vmm::args::{self, Command};
use vmm::clock::BootClock;
use vmm::config::VmConfig;
use vmm::footprint;
use vmm::host_file;
use vmm::launch;
use vmm::log::{self, StderrLog, print};

/// Wrong command line or configuration.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let command = match args::parse(std::env::args_os().skip(1)) {
        Ok(command) => command,
        Err(problem) => {
            log::say(&format!("{problem}; see virga-vmm --help"));
            return ExitCode::from(USAGE);
        }
    };
    match command {
        Command::Help => print(args::HELP),
        Command::Version => print(&format!("virga-vmm {}\n", env!("CARGO_PKG_VERSION"))),
        Command::Probe => match serde_json::to_string(&vmm::probe::probe()) {
            Ok(text) => print(&format!("{text}\n")),
            Err(error) => {
                log::say(&error.to_string());
                ExitCode::FAILURE
            }
        },
        Command::Validate(path) => match VmConfig::from_file(&path) {
            Ok(_) => print("the configuration is valid\n"),
            Err(error) => usage(&error),
        },
        Command::Run { config, started_us } => {
            let clock = BootClock::new(started_us);
            match VmConfig::from_file(&config) {
                Ok(config) => run(config, clock),
                Err(error) => usage(&error),
            }
        }
    }
}

fn usage(error: &dyn std::error::Error) -> ExitCode {
    log::say(&launch::chain(error));
    ExitCode::from(USAGE)
}

fn run(config: VmConfig, clock: BootClock) -> ExitCode {
    // SAFETY: nothing has been opened yet that is still open.
    unsafe { host_file::keep(&config.descriptors()) };
    footprint::share_one_heap();
    StderrLog::new(config.log, &config.name).install();
    let name = config.name.clone();
    match launch::run(config, clock) {
        Ok(report) => {
            log::say(&format!("{name} has ended: {}", report.message));
            // Statuses are small; see `ExitReason`.
            let status = u8::try_from(report.reason.process_status()).unwrap_or(1);
            // Threads that could not be stopped must not be waited for.
            std::process::exit(i32::from(status))
        }
        Err(error) => {
            log::say(&format!("cannot start {name}: {}", launch::chain(&error)));
            ExitCode::FAILURE
        }
    }
}
