//! Where this process' and its devices' messages go: one line each on standard error, which the daemon keeps in
//! `virga.log`.
//!
//! What a guest can cause over and over must not fill the host's disk: each place in the program may log [`BURST`] lines
//! at once and then one a second. What is left out is counted, and said with the next line of this place.
//!
//! It is made by hand because a VMM is measured by its size: a general subscriber would be a fifth of the program.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Lines of one place in the program before their rate is limited.
pub const BURST: u32 = 20;
/// How often there is one more line after that.
const INTERVAL: Duration = Duration::from_secs(1);

/// Writes events up to a level to standard error.
pub struct StderrLog {
    level: Level,
    limits: Mutex<HashMap<Identifier, Limit>>,
}

/// What one place in the program may still log.
#[derive(Debug, PartialEq, Eq)]
struct Limit {
    lines: u32,
    /// When `lines` was counted.
    since: Instant,
    left_out: u64,
}

impl Limit {
    fn new(now: Instant) -> Self {
        Self {
            lines: BURST,
            since: now,
            left_out: 0,
        }
    }

    /// Whether a line may be written, and then how many before it were left out.
    fn take(&mut self, now: Instant) -> Option<u64> {
        let passed = now.saturating_duration_since(self.since).as_secs() / INTERVAL.as_secs();
        let more = u32::try_from(passed).unwrap_or(u32::MAX);
        if more > 0 {
            self.lines = self.lines.saturating_add(more).min(BURST);
            self.since = now;
        }
        match self.lines.checked_sub(1) {
            Some(rest) => {
                self.lines = rest;
                Some(std::mem::take(&mut self.left_out))
            }
            None => {
                self.left_out += 1;
                None
            }
        }
    }
}

impl StderrLog {
    /// Writes events of this level and more severe ones.
    #[must_use]
    pub fn new(level: Level) -> Self {
        Self {
            level,
            limits: Mutex::default(),
        }
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
        let now = Instant::now();
        let left_out = {
            let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
            let limit = limits.entry(event.metadata().callsite());
            limit.or_insert_with(|| Limit::new(now)).take(now)
        };
        let Some(left_out) = left_out else { return };
        let mut line = Line::default();
        event.record(&mut line);
        if left_out > 0 {
            // Writing to a string cannot fail.
            let _ = write!(line.fields, " ({left_out} lines like this were left out)");
        }
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
