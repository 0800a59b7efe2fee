//! `virga info`: one instance for a person, or the daemon.

use std::fmt::Write;

use http_body_util::BodyExt;
use serde_json::Value;

use super::Context;
use crate::args;
use crate::client::{build, empty, escape};
use crate::error::{Error, Result};
use crate::output::{self, Format, size, text};

/// Shows an instance with its state, or the daemon.
pub(super) async fn run(context: &Context, args: args::Info) -> Result<()> {
    let Some(name) = args.name else {
        let server = context.client.get_value("/1.0").await?;
        return output::document(context.format, &server);
    };
    let path = format!("/1.0/instances/{}", escape(&name));
    let instance = context.client.get_value(&format!("{path}?recursion=1")).await?;
    match context.format {
        Format::Table | Format::Csv => output::print(&describe(&instance))?,
        format => output::document(format, &instance)?,
    }
    if args.show_log {
        let log = log(context, &format!("{path}/logs/virga.log")).await?;
        output::print(&format!("\nLog:\n\n{log}"))?;
    }
    Ok(())
}

/// A text file that the API gives without an envelope.
pub(super) async fn log(context: &Context, path: &str) -> Result<String> {
    let response = context
        .client
        .send(build(http::Request::get(path), empty())?)
        .await?;
    let status = response.status();
    let name = format!("GET {path}");
    if !status.is_success() {
        crate::client::read_envelope(&name, response).await?;
        return Err(Error::protocol(name, status));
    }
    let bytes = response
        .into_body()
        .collect()
        .await
        .map_err(|err| Error::protocol(name, err))?
        .to_bytes();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn describe(instance: &Value) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = describe_to(&mut out, instance);
    out
}

fn describe_to(out: &mut String, instance: &Value) -> std::fmt::Result {
    let state = &instance["state"];
    writeln!(out, "Name: {}", text(&instance["name"]))?;
    if instance["description"].as_str().is_some_and(|d| !d.is_empty()) {
        writeln!(out, "Description: {}", text(&instance["description"]))?;
    }
    writeln!(out, "Status: {}", text(&instance["status"]).to_uppercase())?;
    writeln!(out, "Type: {}", text(&instance["type"]))?;
    writeln!(out, "Architecture: {}", text(&instance["architecture"]))?;
    if let Some(pid) = state["pid"].as_i64().filter(|pid| *pid > 0) {
        writeln!(out, "PID: {pid}")?;
    }
    writeln!(out, "Created: {}", text(&instance["created_at"]))?;
    if let Some(processes) = state["processes"].as_i64().filter(|n| *n > 0) {
        writeln!(out, "\nResources:\n  Processes: {processes}")?;
        describe_resources(out, state)?;
    }
    for (name, interface) in state["network"].as_object().into_iter().flatten() {
        describe_interface(out, name, interface)?;
    }
    let snapshots = instance["snapshots"].as_array().filter(|list| !list.is_empty());
    if let Some(snapshots) = snapshots {
        writeln!(out, "\nSnapshots:")?;
        for snapshot in snapshots {
            let name = text(&snapshot["name"]);
            writeln!(
                out,
                "  {}  {}",
                name.rsplit('/').next().unwrap_or_default(),
                text(&snapshot["created_at"])
            )?;
        }
    }
    Ok(())
}

fn describe_resources(out: &mut String, state: &Value) -> std::fmt::Result {
    for (disk, usage) in state["disk"].as_object().into_iter().flatten() {
        if let Some(bytes) = usage["usage"].as_u64().filter(|bytes| *bytes > 0) {
            writeln!(out, "  Disk usage: {disk}: {}", size(bytes))?;
        }
    }
    if let Some(used) = state["cpu"]["usage"].as_u64() {
        writeln!(out, "  CPU usage: {:.2} s", used as f64 / 1e9)?;
    }
    let memory = &state["memory"];
    for (key, label) in [
        ("usage", "Memory (current)"),
        ("usage_peak", "Memory (peak)"),
        ("total", "Memory (total)"),
    ] {
        if let Some(bytes) = memory[key].as_u64().filter(|bytes| *bytes > 0) {
            writeln!(out, "  {label}: {}", size(bytes))?;
        }
    }
    Ok(())
}

fn describe_interface(out: &mut String, name: &str, interface: &Value) -> std::fmt::Result {
    writeln!(
        out,
        "\nNetwork {name}: {} {}",
        text(&interface["state"]),
        text(&interface["hwaddr"])
    )?;
    let host_name = text(&interface["host_name"]);
    if !host_name.is_empty() {
        writeln!(out, "  Host interface: {host_name}")?;
    }
    let counters = &interface["counters"];
    let bytes = |key: &str| size(counters[key].as_u64().unwrap_or(0));
    writeln!(
        out,
        "  Received: {}, sent: {}",
        bytes("bytes_received"),
        bytes("bytes_sent")
    )?;
    for address in interface["addresses"].as_array().into_iter().flatten() {
        let family = if address["family"] == "inet6" {
            "IPv6"
        } else {
            "IPv4"
        };
        writeln!(
            out,
            "  {family}: {}/{} ({})",
            text(&address["address"]),
            text(&address["netmask"]),
            text(&address["scope"])
        )?;
    }
    Ok(())
}
