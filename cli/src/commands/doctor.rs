//! `virga doctor`: what this host can do, and what each lack costs.
//!
//! It asks the kernel, not the daemon, so that it also helps where the daemon
//! does not start. `host_checks` holds the single questions.

use serde_json::json;

use super::Context;
use crate::error::Result;
use crate::output::{self, Format, style};

#[path = "host_checks.rs"]
mod host_checks;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// There.
    Good,
    /// Not there; something is slower, weaker or missing without it.
    Lacking,
    /// Not there; instances of some kind cannot run without it.
    Missing,
}

/// One question about the host and its answer.
#[derive(Debug)]
struct Check {
    name: &'static str,
    verdict: Verdict,
    /// What was found.
    found: String,
    /// What its lack costs; empty when it is there.
    cost: &'static str,
}

/// Asks everything and prints it. Gives 1 when neither containers nor virtual machines can run.
pub(super) fn run(context: &Context) -> Result<u8> {
    let checks = host_checks::all();
    match context.format {
        Format::Json | Format::Yaml => {
            let documents: Vec<_> = checks
                .iter()
                .map(|check| {
                    let verdict = match check.verdict {
                        Verdict::Good => "good",
                        Verdict::Lacking => "lacking",
                        Verdict::Missing => "missing",
                    };
                    json!({ "name": check.name, "verdict": verdict, "found": check.found, "cost": check.cost })
                })
                .collect();
            output::document(context.format, &documents.into())?;
        }
        Format::Table | Format::Csv => {
            for check in &checks {
                let mark = match check.verdict {
                    Verdict::Good => style::good("ok     "),
                    Verdict::Lacking => style::caution("lacking"),
                    Verdict::Missing => style::bad("missing"),
                };
                output::print(&format!("{mark} {:<18} {}\n", check.name, check.found))?;
                if !check.cost.is_empty() {
                    output::print(&format!("{:27}{}\n", "", check.cost))?;
                }
            }
        }
    }
    let broken = |name| {
        checks
            .iter()
            .any(|check| check.name == name && check.verdict == Verdict::Missing)
    };
    Ok(u8::from(broken("containers") && broken("virtual machines")))
}
