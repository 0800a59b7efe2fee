//! What kind of machine a run was on, and how busy it was: a figure without it is worth little.

use std::fs;
use std::thread;

/// The load average when a run began.
pub struct Machine {
    load: String,
}

impl Machine {
    /// At the start of a run.
    #[must_use]
    pub fn note() -> Self {
        Self { load: load() }
    }

    /// At its end: one line.
    #[must_use]
    pub fn describe(&self) -> String {
        let cpus = thread::available_parallelism().map_or(0, usize::from);
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        format!(
            "{cpus} CPUs ({}), Linux {}, load average {} before and {} after",
            cpu_model(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
            kernel.trim(),
            self.load,
            load()
        )
    }
}

/// The load average of the last minute.
fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

fn cpu_model(cpuinfo: &str) -> &str {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"));
    line.and_then(|line| line.split_once(':'))
        .map_or("unknown model", |(_, model)| model.trim())
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
