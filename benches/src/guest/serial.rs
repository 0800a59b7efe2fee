//! What the guest's program says on the serial port, between whatever else is there.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde::Deserialize;

/// Begins each line that is meant for us.
pub(super) const MARK: &str = "virga-bench ";

/// Values by the guest's word for them.
pub(super) type Figures = BTreeMap<String, f64>;

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Figure { name: String, value: f64 },
    Failure { error: String },
    Done { done: bool },
}

/// All figures, once the guest has said that there are no more.
pub(super) fn parse(text: &str) -> Result<Option<Figures>> {
    let mut figures = Figures::new();
    // The last line may not be complete.
    let complete = text.rsplit_once('\n').map_or("", |(complete, _)| complete);
    for line in complete.lines() {
        let Some(at) = line.find(MARK) else { continue };
        let Some(json) = line.get(at + MARK.len()..) else {
            continue;
        };
        match serde_json::from_str(json.trim_end()) {
            Ok(Line::Figure { name, value }) => {
                figures.insert(name, value);
            }
            Ok(Line::Failure { error }) => bail!("the guest says: {error}"),
            Ok(Line::Done { done: true }) => return Ok(Some(figures)),
            Ok(Line::Done { done: false }) => {}
            Err(error) => bail!("the guest's line {line:?} is not understood: {error}"),
        }
    }
    Ok(None)
}

#[cfg(test)]
#[path = "serial_tests.rs"]
mod tests;
