//! `virga bench`: measures this host. It asks no daemon; the `api` and `launch` groups start one of their own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use benches::run::{Files, GROUPS, Group};
use benches::setting::{Progress, Remark, Setting};
use benches::{interrupt, report, run};
use serde_json::Value;

use super::Context;
use crate::args::Bench;
use crate::error::{Error, Result};
use crate::output::{self, Format};
use crate::progress;

/// Exit status after Ctrl-C, as a shell counts it.
const INTERRUPTED: u8 = 130;

/// Runs the groups and prints what they found.
pub(super) fn run(context: &Context, args: Bench) -> Result<u8> {
    let (on_progress, on_remark, bar) = shown(context.quiet);
    let setting = Setting {
        dist: dist(args.dist)?,
        peers: args.peer.into_iter().collect(),
        rounds: args.rounds,
        image: args.image,
        on_progress,
        on_remark,
    };
    let groups: Vec<Group> = match args.groups.is_empty() {
        true => GROUPS.to_vec(),
        false => args.groups.into_iter().map(Group::from).collect(),
    };
    let files = Files {
        json: args.json,
        svg: args.svg,
    };
    let measured = run::run(&setting, &groups, &files);
    bar.finish_and_clear();
    let (figures, machine) = match measured {
        Ok(measured) => measured,
        Err(_) if interrupt::requested() => {
            context.remark("interrupted; everything it started has been ended");
            return Ok(INTERRUPTED);
        }
        Err(error) => return Err(Error::Bench(format!("{error:#}"))),
    };
    match context.format {
        Format::Json | Format::Yaml => {
            let document = serde_json::to_value(&figures).unwrap_or(Value::Null);
            output::document(context.format, &document)?;
        }
        Format::Table | Format::Csv => output::print(&format!("{}\n{machine}\n", report::table(&figures)))?,
    }
    Ok(0)
}

/// A bar for the rounds of what is being measured, and lines above it for what went wrong.
fn shown(quiet: bool) -> (Progress, Remark, indicatif::ProgressBar) {
    let bar = progress::rounds(quiet);
    let (rounds, remarks) = (bar.clone(), bar.clone());
    let on_progress: Progress = Arc::new(move |label: &str, done, total| {
        rounds.set_length(total as u64);
        rounds.set_position(done as u64);
        rounds.set_message(label.to_owned());
        // Without a terminal there is no bar; a log wants to know what is going on all the same.
        if rounds.is_hidden() && !quiet && done == 0 {
            eprintln!("{label}");
        }
    });
    let on_remark: Remark = Arc::new(move |text: &str| match remarks.is_hidden() {
        true => eprintln!("{text}"),
        false => remarks.println(text),
    });
    (on_progress, on_remark, bar)
}

/// Where Virga's other programs are: beside this one, as installed.
fn dist(given: Option<PathBuf>) -> Result<PathBuf> {
    let found = match given {
        Some(given) => std::path::absolute(given),
        None => std::env::current_exe()
            .map(|program| program.ancestors().nth(2).unwrap_or(Path::new("/usr")).to_owned()),
    };
    found.map_err(|error| Error::io("find Virga's programs", error))
}
