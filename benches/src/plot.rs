//! The ratios as a picture: one bar for each figure beside each peer, on a logarithmic scale around 1. Bars to the right
//! are better than the peer whatever the unit.

use svg::Document;
use svg::node::element::{Line, Rectangle, Text};

use crate::report::{Better, Figure};

const ROW: f64 = 22.0;
const TOP: f64 = 56.0;
const LABELS: f64 = 460.0;
const BARS: f64 = 480.0;
const NUMBERS: f64 = 130.0;
/// Beyond a hundredfold bars are cut off.
const DECADES: f64 = 2.0;

/// Draws all figures that have a ratio; `caption` says where and when.
#[must_use]
pub fn svg(figures: &[Figure], caption: &str) -> String {
    let bars: Vec<(&Figure, f64)> = figures
        .iter()
        .filter_map(|figure| Some((figure, advantage(figure)?)))
        .collect();
    let (width, height) = (LABELS + BARS + NUMBERS, TOP + ROW * bars.len() as f64 + 40.0);
    let middle = LABELS + BARS / 2.0;
    let mut document = Document::new()
        .set("viewBox", (0.0, 0.0, width, height))
        .set("width", width)
        .set("height", height)
        .set("font-family", "sans-serif")
        .set("font-size", 12)
        .add(
            Rectangle::new()
                .set("width", width)
                .set("height", height)
                .set("fill", "white"),
        )
        .add(
            text(
                "Virga beside its peers: how many times better (log scale)",
                12.0,
                22.0,
            )
            .set("font-size", 15),
        )
        .add(text(caption, 12.0, height - 12.0).set("fill", "#666"));
    for (power, label) in [(-2, "1/100"), (-1, "1/10"), (0, "1"), (1, "10"), (2, "100")] {
        let x = middle + f64::from(power) / DECADES * BARS / 2.0;
        let line = Line::new()
            .set("x1", x)
            .set("x2", x)
            .set("y1", TOP - 8.0)
            .set("y2", height - 32.0);
        document = document
            .add(line.set("stroke", if power == 0 { "#444" } else { "#ddd" }))
            .add(
                text(label, x, TOP - 12.0)
                    .set("text-anchor", "middle")
                    .set("fill", "#666"),
            );
    }
    for (index, (figure, advantage)) in bars.iter().enumerate() {
        let y = TOP + ROW * index as f64;
        let len = (advantage.log10() / DECADES).clamp(-1.0, 1.0) * BARS / 2.0;
        let label = format!("{} / {}", figure.name, figure.peer.as_deref().unwrap_or_default());
        document = document
            .add(text(&label, LABELS - 8.0, y + 12.0).set("text-anchor", "end"))
            .add(
                Rectangle::new()
                    .set("x", middle.min(middle + len))
                    .set("y", y + 2.0)
                    .set("width", len.abs().max(1.0))
                    .set("height", ROW - 8.0)
                    .set("fill", if *advantage >= 1.0 { "#2a7f62" } else { "#c44536" }),
            )
            .add(text(
                &format!("{advantage:.2} times"),
                LABELS + BARS + 8.0,
                y + 12.0,
            ));
    }
    document.to_string() + "\n"
}

fn text(content: &str, x: f64, y: f64) -> Text {
    Text::new(content).set("x", x).set("y", y)
}

/// How many times better than the peer.
fn advantage(figure: &Figure) -> Option<f64> {
    let ratio = figure.ratio.filter(|ratio| *ratio > 0.0)?;
    match figure.better? {
        Better::Lower => Some(1.0 / ratio),
        Better::Higher => Some(ratio),
    }
}

#[cfg(test)]
#[path = "plot_tests.rs"]
mod tests;
