//! Tests that cannot run on this host say so where the summary finds it.

use std::io::Write;
use std::process::Command;

use crate::host::dist;

/// Why this host cannot run virtual machines, or `None` when it can.
pub fn why_no_virtual_machines() -> Option<String> {
    let output = Command::new(dist().join("bin/virga"))
        .args(["doctor", "--format", "json"])
        .output()
        .ok()?;
    let checks: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    let check = checks
        .as_array()?
        .iter()
        .find(|check| check["name"] == "virtual machines")?;
    (check["verdict"] != "good").then(|| check["found"].as_str().unwrap_or("unknown").to_owned())
}

/// True when virtual machines run here. Otherwise records that `test` is skipped, and why.
pub fn virtual_machines_run_here(test: &str) -> bool {
    let Some(reason) = why_no_virtual_machines() else {
        return true;
    };
    let line = format!("{test}: no virtual machines on this host: {reason}\n");
    eprint!("skipped: {line}");
    if let Some(log) = std::env::var_os("VIRGA_SKIP_LOG")
        && let Ok(mut file) = std::fs::OpenOptions::new().append(true).create(true).open(log)
    {
        // The record is for the summary; the test's own outcome does not hang on it.
        let _ = file.write_all(line.as_bytes());
    }
    false
}
