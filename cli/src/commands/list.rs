//! `virga list`.

use serde_json::Value;

use super::{Context, documents};
use crate::args;
use crate::error::{Error, Result};
use crate::output::{self, Column, size, text};

/// Every column there is, with its letter.
const COLUMNS: [(char, Column); 12] = [
    (
        'n',
        Column {
            title: "NAME",
            cell: |i| text(&i["name"]),
        },
    ),
    (
        's',
        Column {
            title: "STATE",
            cell: |i| text(&i["status"]).to_uppercase(),
        },
    ),
    (
        '4',
        Column {
            title: "IPV4",
            cell: |i| addresses(i, "inet"),
        },
    ),
    (
        '6',
        Column {
            title: "IPV6",
            cell: |i| addresses(i, "inet6"),
        },
    ),
    (
        't',
        Column {
            title: "TYPE",
            cell: kind,
        },
    ),
    (
        'S',
        Column {
            title: "SNAPSHOTS",
            cell: |i| i["snapshots"].as_array().map_or(0, Vec::len).to_string(),
        },
    ),
    (
        'P',
        Column {
            title: "PROFILES",
            cell: profiles,
        },
    ),
    (
        'm',
        Column {
            title: "MEMORY USAGE",
            cell: memory,
        },
    ),
    (
        'p',
        Column {
            title: "PID",
            cell: pid,
        },
    ),
    (
        'b',
        Column {
            title: "STORAGE POOL",
            cell: pool,
        },
    ),
    (
        'c',
        Column {
            title: "CREATED AT",
            cell: |i| text(&i["created_at"]).chars().take(19).collect(),
        },
    ),
    (
        'a',
        Column {
            title: "ARCHITECTURE",
            cell: |i| text(&i["architecture"]),
        },
    ),
];

/// Lists the instances that fit every filter.
pub(super) async fn run(context: &Context, args: args::List) -> Result<()> {
    let columns = columns(&args.columns)?;
    let mut instances = documents(context.client.get_value("/1.0/instances?recursion=2").await?)?;
    instances.retain(|instance| args.filter.iter().all(|filter| fits(instance, filter)));
    instances.sort_by_key(|instance| text(&instance["name"]));
    output::list(context.format, &columns, &instances)
}

fn columns(letters: &str) -> Result<Vec<Column>> {
    letters
        .chars()
        .filter(|letter| *letter != ',')
        .map(|letter| {
            COLUMNS
                .iter()
                .find(|(own, _)| *own == letter)
                .map(|(_, column)| Column {
                    title: column.title,
                    cell: column.cell,
                })
                .ok_or_else(|| {
                    let known: String = COLUMNS.iter().map(|(own, _)| own).collect();
                    Error::Usage(format!("'{letter}' is no column; there are: {known}"))
                })
        })
        .collect()
}

fn fits(instance: &Value, filter: &str) -> bool {
    let Some((key, wanted)) = filter.split_once('=') else {
        return text(&instance["name"]).starts_with(filter);
    };
    match key {
        "status" | "state" => text(&instance["status"]).eq_ignore_ascii_case(wanted),
        "type" => {
            text(&instance["type"]).eq_ignore_ascii_case(wanted)
                || kind(instance).eq_ignore_ascii_case(wanted)
        }
        "name" => text(&instance["name"]) == wanted,
        key => text(&instance["expanded_config"][key]) == wanted,
    }
}

fn kind(instance: &Value) -> String {
    let kind = text(&instance["type"]).replace('-', " ").to_uppercase();
    if instance["ephemeral"] == true {
        format!("{kind} (EPHEMERAL)")
    } else {
        kind
    }
}

fn profiles(instance: &Value) -> String {
    let names: Vec<String> = instance["profiles"]
        .as_array()
        .into_iter()
        .flatten()
        .map(text)
        .collect();
    names.join("\n")
}

fn memory(instance: &Value) -> String {
    instance["state"]["memory"]["usage"]
        .as_u64()
        .filter(|usage| *usage > 0)
        .map(size)
        .unwrap_or_default()
}

fn pid(instance: &Value) -> String {
    instance["state"]["pid"]
        .as_i64()
        .filter(|pid| *pid > 0)
        .map(|pid| pid.to_string())
        .unwrap_or_default()
}

fn pool(instance: &Value) -> String {
    let devices = instance["expanded_devices"].as_object();
    devices
        .into_iter()
        .flat_map(|devices| devices.values())
        .find(|device| device["type"] == "disk" && device["path"] == "/")
        .map(|root| text(&root["pool"]))
        .unwrap_or_default()
}

/// Global addresses of a family, one a line with the interface, as the field's clients show them.
fn addresses(instance: &Value, family: &str) -> String {
    let mut lines = Vec::new();
    for (interface, state) in instance["state"]["network"].as_object().into_iter().flatten() {
        if interface == "lo" {
            continue;
        }
        for address in state["addresses"].as_array().into_iter().flatten() {
            if address["family"] == family && address["scope"] == "global" {
                lines.push(format!("{} ({interface})", text(&address["address"])));
            }
        }
    }
    lines.join("\n")
}

#[cfg(test)]
#[path = "list_tests.rs"]
mod tests;
