//! Tests that cannot run on this host say so where the summary finds it.

use std::io::Write;
use std::process::Command;

use serde_json::Value;

use crate::host::virga;

/// What `virga doctor` says about this host: its checks, as JSON.
pub fn doctor() -> Vec<Value> {
    let output = Command::new(virga())
        .args(["doctor", "--format", "json"])
        .output();
    let output = output.expect("start virga doctor");
    serde_json::from_slice(&output.stdout).expect("virga doctor gives JSON")
}

/// Why this host cannot run virtual machines, or `None` when it can.
pub fn why_no_virtual_machines() -> Option<String> {
    let checks = doctor();
    let check = checks.iter().find(|check| check["name"] == "virtual machines")?;
    (check["verdict"] != "good").then(|| check["found"].as_str().unwrap_or("unknown").to_owned())
}

/// True when virtual machines run here. Otherwise records that `test` is skipped, and why.
pub fn virtual_machines_run_here(test: &str) -> bool {
    let Some(reason) = why_no_virtual_machines() else {
        return true;
    };
    skipped(test, &format!("no virtual machines on this host: {reason}"));
    false
}

/// Records that `test`, which returns now, is skipped, and why.
pub fn skipped(test: &str, reason: &str) {
    let line = format!("{test}: {reason}\n");
    eprint!("skipped: {line}");
    if let Some(log) = std::env::var_os("VIRGA_SKIP_LOG")
        && let Ok(mut file) = std::fs::OpenOptions::new().append(true).create(true).open(log)
    {
        // The record is for the summary; the test's own outcome does not hang on it.
        let _ = file.write_all(line.as_bytes());
    }
}
