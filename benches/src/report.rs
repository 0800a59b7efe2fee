//! What was measured, as a table for people and as JSON for programs.

use serde::Serialize;

/// A number, or the reason why there is none.
pub type Outcome = Result<f64, String>;

/// Which way is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// Times and sizes.
    Lower,
    /// Throughput.
    Higher,
}

/// One thing that was measured, for Virga and for each of its peers.
#[derive(Debug, Clone)]
pub struct Row {
    /// What it is.
    pub name: String,
    /// Unit of all its values.
    pub unit: &'static str,
    /// Which way is good.
    pub better: Better,
    /// Virga's value.
    pub ours: Outcome,
    /// The peers' values by name; none for a figure that only Virga has.
    pub peers: Vec<(String, Outcome)>,
}

/// One line of the report: a thing beside one peer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// What it is.
    pub name: String,
    /// Virga's value.
    pub value: Option<f64>,
    /// Unit of both values.
    pub unit: &'static str,
    /// Beside whom.
    pub peer: Option<String>,
    /// The peer's value.
    pub peer_value: Option<f64>,
    /// Virga's value divided by the peer's.
    pub ratio: Option<f64>,
    /// Why a value is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_measured: Option<String>,
    #[serde(skip)]
    pub(crate) better: Option<Better>,
}

/// The lines of all rows.
#[must_use]
pub fn figures(rows: &[Row]) -> Vec<Figure> {
    let mut figures = Vec::new();
    for row in rows {
        if row.peers.is_empty() {
            figures.push(figure(row, None));
        }
        figures.extend(row.peers.iter().map(|peer| figure(row, Some(peer))));
    }
    figures
}

fn figure(row: &Row, peer: Option<&(String, Outcome)>) -> Figure {
    let value = row.ours.as_ref().ok().copied();
    let peer_value = peer.and_then(|(_, outcome)| outcome.as_ref().ok().copied());
    let ratio = match (value, peer_value) {
        (Some(value), Some(peer_value)) if peer_value > 0.0 => Some(value / peer_value),
        _ => None,
    };
    let mut reasons = Vec::new();
    if let Err(reason) = &row.ours {
        reasons.push(format!("Virga: {reason}"));
    }
    if let Some((name, Err(reason))) = peer {
        reasons.push(format!("{name}: {reason}"));
    }
    Figure {
        name: row.name.clone(),
        value,
        unit: row.unit,
        peer: peer.map(|(name, _)| name.clone()),
        peer_value,
        ratio,
        not_measured: (!reasons.is_empty()).then(|| reasons.join("; ")),
        better: Some(row.better),
    }
}

/// A Markdown table with columns that line up in a terminal, and below it what was not measured.
#[must_use]
pub fn table(figures: &[Figure]) -> String {
    let mut lines = vec![["", "Virga", "peer", "peer's value", "ratio", "unit"].map(str::to_owned)];
    for figure in figures {
        lines.push([
            figure.name.clone(),
            number_or_not_measured(figure.value),
            figure.peer.clone().unwrap_or_default(),
            match figure.peer {
                Some(_) => number_or_not_measured(figure.peer_value),
                None => String::new(),
            },
            ratio(figure),
            figure.unit.to_owned(),
        ]);
    }
    let widths: Vec<usize> = (0..6)
        .map(|column| {
            lines
                .iter()
                .map(|line| line[column].chars().count())
                .max()
                .unwrap_or(0)
                .max(3)
        })
        .collect();
    let right = [false, true, false, true, true, false];
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        for ((cell, width), right) in line.iter().zip(&widths).zip(right) {
            let width = *width;
            text += &if right {
                format!("| {cell:>width$} ")
            } else {
                format!("| {cell:<width$} ")
            };
        }
        text += "|\n";
        if index == 0 {
            for (width, right) in widths.iter().zip(right) {
                let dashes = "-".repeat(width - usize::from(right));
                text += &format!("| {dashes}{} ", if right { ":" } else { "" });
            }
            text += "|\n";
        }
    }
    text + &not_measured(figures)
}

/// Each reason once, with what it concerns.
fn not_measured(figures: &[Figure]) -> String {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for figure in figures {
        let Some(reason) = &figure.not_measured else {
            continue;
        };
        match reasons.iter_mut().find(|(known, _)| known == reason) {
            Some((_, names)) => names.push(&figure.name),
            None => reasons.push((reason, vec![&figure.name])),
        }
    }
    let mut text = String::new();
    for (reason, names) in reasons {
        let more = match names.len() {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        text += &format!("\nNot measured: {}{more}: {reason}\n", names[0]);
    }
    text
}

fn number_or_not_measured(value: Option<f64>) -> String {
    value.map_or_else(|| "not measured".to_owned(), number)
}

/// The ratio, and whether it is a good one.
fn ratio(figure: &Figure) -> String {
    let Some(ratio) = figure.ratio else {
        return String::new();
    };
    let verdict = match (figure.better, ratio) {
        (_, 0.97..=1.03) => "same",
        (Some(Better::Lower), ..1.0) | (Some(Better::Higher), 1.0..) => "better",
        _ => "worse",
    };
    format!("{} ({verdict})", number(ratio))
}

/// Three significant digits, without an exponent.
fn number(value: f64) -> String {
    let digits = if value == 0.0 {
        0
    } else {
        value.abs().log10().floor() as i32
    };
    let decimals = usize::try_from((2 - digits).clamp(0, 6)).unwrap_or(0);
    format!("{value:.decimals$}")
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
