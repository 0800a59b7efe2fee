//! Where this process' and its devices' messages go: one line each on standard error, which the daemon keeps in
//! `virga.log`.
//!
//! It is made by hand because a VMM is measured by its size: a general subscriber would be a fifth of the program.

use std::fmt::{self, Write as _};
use std::io::Write as _;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Writes events up to a level to standard error.
pub struct StderrLog {
    level: Level,
}

impl StderrLog {
    /// Writes events of this level and more severe ones.
    #[must_use]
    pub fn new(level: Level) -> Self {
        Self { level }
    }

    /// Makes this the log of the process. Only the first call counts.
    pub fn install(self) {
        // Fails when there is one already, which then is used.
        let _ = tracing::subscriber::set_global_default(self);
    }
}

/// Collects an event's fields: the message first, then `name=value`.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

fn format(level: &Level, target: &str, line: &Line) -> String {
    // One event is one line, whatever a file name or a guest put into it.
    format!("{level:<5} {target}: {}{}", line.message, line.fields).replace(['\n', '\r'], " ") + "\n"
}

impl Subscriber for StderrLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        !metadata.is_span() && *metadata.level() <= self.level
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let text = format(event.metadata().level(), event.metadata().target(), &line);
        // Nobody to read it is no reason to stop a VM.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }

    // Spans are not used here.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
