//! Printing: one list of documents as a table, JSON, YAML or CSV.

pub(crate) mod style;

use std::io::Write;

use clap::ValueEnum;
use comfy_table::{Table, presets};
use serde_json::Value;

use crate::error::{Error, Result};

/// How lists and documents are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns with a frame, for people.
    #[default]
    Table,
    /// The API's documents as JSON.
    Json,
    /// The API's documents as YAML.
    Yaml,
    /// The table's columns as comma-separated values without a header.
    Csv,
}

/// A column: its title and how a document's cell is made.
pub(crate) struct Column {
    /// Title in the table's header.
    pub(crate) title: &'static str,
    /// The text of the cell.
    pub(crate) cell: fn(&Value) -> String,
}

/// Prints `documents` in `format`; the columns serve the table and CSV.
pub(crate) fn list(format: Format, columns: &[Column], documents: &[Value]) -> Result<()> {
    match format {
        Format::Json => print(&json(&Value::Array(documents.to_vec()))),
        Format::Yaml => print(&yaml(&Value::Array(documents.to_vec()))?),
        Format::Csv => print(&csv(columns, documents)?),
        Format::Table => print(&table(columns, documents)),
    }
}

/// Prints one document; as YAML where a table was asked for.
pub(crate) fn document(format: Format, document: &Value) -> Result<()> {
    match format {
        Format::Json => print(&json(document)),
        _ => print(&yaml(document)?),
    }
}

/// Writes to standard output. A reader that has gone away ends the output, not the command.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| {
        if text.is_empty() || text.ends_with('\n') {
            Ok(())
        } else {
            out.write_all(b"\n")
        }
    });
    match written.and_then(|()| out.flush()) {
        Err(err) if err.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::io("write to standard output", err))
        }
        _ => Ok(()),
    }
}

fn table(columns: &[Column], documents: &[Value]) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_FULL_CONDENSED);
    table.set_header(columns.iter().map(|column| column.title));
    for document in documents {
        table.add_row(columns.iter().map(|column| (column.cell)(document)));
    }
    table.to_string()
}

fn json(value: &Value) -> String {
    // A `Value` always serialises: its keys are strings.
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// YAML text of a document.
pub(crate) fn yaml(value: &Value) -> Result<String> {
    serde_norway::to_string(value).map_err(|err| Error::Usage(format!("cannot write this as YAML: {err}")))
}

fn csv(columns: &[Column], documents: &[Value]) -> Result<String> {
    let broken = |err: csv::Error| Error::Usage(format!("cannot write this as CSV: {err}"));
    let mut writer = csv::WriterBuilder::new()
        .has_headers(false)
        .from_writer(Vec::new());
    for document in documents {
        writer
            .write_record(columns.iter().map(|column| (column.cell)(document)))
            .map_err(broken)?;
    }
    let bytes = writer.into_inner().map_err(|err| Error::Usage(err.to_string()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Text of a JSON value in a cell: strings without quotes, null as nothing.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A size in bytes for people: binary units, two decimals.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes}B")
    } else {
        format!("{value:.2}{}", UNITS[unit])
    }
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
