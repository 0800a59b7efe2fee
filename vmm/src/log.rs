//! Where this process' and its devices' messages go: one line each on standard error, which the daemon keeps in
//! `virga.log`. A line is text for people or a JSON object, as the configuration says.
//!
//! What a guest can cause over and over must not fill the host's disk: each place in the program may log [`BURST`] lines
//! at once and then one a second. What is left out is counted, and said with the next line of this place.
//!
//! Whoever started the process may not read what it says, and a pipe that is full would stop the thread that writes, a vCPU
//! perhaps. So a line is dropped when there is no room for it; the next one that there is room for says how many were.
//!
//! It is made by hand because a VMM is measured by its size: a general subscriber would be a fifth of the program.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::io::{StderrLock, Write as _};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Map, Number, Value, json};
use tracing::callsite::Identifier;
use tracing::dispatcher;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::config::{LogConfig, LogFormat};
use crate::lock::lock;

/// Lines of one place in the program before their rate is limited.
pub const BURST: u32 = 20;
/// How often there is one more line after that.
const INTERVAL: Duration = Duration::from_secs(1);

/// The program that speaks, if it is not the VMM.
static PROGRAM: OnceLock<&str> = OnceLock::new();

/// Lines that were dropped since the last one that was written, and whether that one was cut off. Changed by whoever has
/// locked standard error.
static DROPPED: AtomicU64 = AtomicU64::new(0);
static CUT: AtomicBool = AtomicBool::new(false);

/// Writes events up to a level to standard error.
pub struct StderrLog {
    level: Level,
    /// The VM's name, where lines are JSON objects.
    json_of: Option<String>,
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
    /// Writes what the configuration of a VM with this name asks for.
    #[must_use]
    pub fn new(config: LogConfig, vm: &str) -> Self {
        Self {
            level: config.level.into(),
            json_of: (config.format == LogFormat::Json).then(|| vm.to_owned()),
            limits: Mutex::default(),
        }
    }

    /// Makes this the log of the process. Only the first call counts.
    pub fn install(self) {
        // Fails when there is one already, which then is used.
        let _ = tracing::subscriber::set_global_default(self);
    }
}

/// Has [`say`] speak for another program than the VMM.
pub fn speak_for(program: &'static str) {
    // There is one program to a process.
    let _ = PROGRAM.set(program);
}

/// Prints what was asked for to standard output. Nobody to read it is not an error.
pub fn print(text: &str) -> ExitCode {
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

/// Writes a line of the program's own to standard error.
pub fn say(message: &str) {
    let program = PROGRAM.get().unwrap_or(&"virga-vmm");
    dispatcher::get_default(|log| {
        let log = log.downcast_ref::<StderrLog>();
        match log.and_then(|log| log.json_of.as_deref()) {
            Some(vm) => {
                let text = as_json(vm, &Level::INFO, program, &Line::of(message), 0);
                write(Some(vm), &text);
            }
            None => write(None, &format!("{program}: {message}\n")),
        }
    });
}

/// Writes a line, or drops it. Nobody to read it is no reason to stop a VM.
fn write(json_of: Option<&str>, text: &str) {
    let mut stderr = std::io::stderr().lock();
    let dropped = DROPPED.load(Ordering::Relaxed);
    if CUT.load(Ordering::Relaxed) && put(&mut stderr, "\n") {
        CUT.store(false, Ordering::Relaxed);
    }
    let line = Line::of(&format!("{dropped} lines were dropped: nobody read them"));
    if dropped > 0
        && put(
            &mut stderr,
            &format(json_of, &Level::WARN, module_path!(), &line, 0),
        )
    {
        DROPPED.store(0, Ordering::Relaxed);
    }
    if !put(&mut stderr, text) {
        DROPPED.fetch_add(1, Ordering::Relaxed);
    }
}

/// Writes as much as there is room for, and says whether that was all. Where there is any room in a pipe, there is some for
/// [`PIPE_BUF`](libc::PIPE_BUF) bytes, unless another process writes to it, too (pipe(7)).
fn put(stderr: &mut StderrLock<'_>, text: &str) -> bool {
    let mut chunks = text.as_bytes().chunks(libc::PIPE_BUF).enumerate();
    chunks.all(|(index, chunk)| {
        let mut room = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
        let room = poll(&mut room, PollTimeout::ZERO).is_ok_and(|count| count > 0);
        let written = room && stderr.write_all(chunk).is_ok();
        if !written && index > 0 {
            CUT.store(true, Ordering::Relaxed);
        }
        written
    })
}

/// An event's message and its fields.
#[derive(Default)]
struct Line {
    message: String,
    fields: Vec<(&'static str, Value)>,
}

impl Line {
    fn of(message: &str) -> Self {
        Self {
            message: message.to_owned(),
            fields: Vec::new(),
        }
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "message" => self.message = text,
            name => self.fields.push((name, text.into())),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            name => self.fields.push((name, value.into())),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.fields.push((field.name(), value.into()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.fields.push((field.name(), value.into()));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // What is no number in JSON is a text.
        let number = Number::from_f64(value).map_or_else(|| value.to_string().into(), Value::Number);
        self.fields.push((field.name(), number));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.fields.push((field.name(), value.into()));
    }
}

fn format(json_of: Option<&str>, level: &Level, target: &str, line: &Line, left_out: u64) -> String {
    match json_of {
        Some(vm) => as_json(vm, level, target, line, left_out),
        None => as_text(level, target, line, left_out),
    }
}

/// One event is one line, whatever a file name or a guest put into it.
fn as_text(level: &Level, target: &str, line: &Line, left_out: u64) -> String {
    let mut text = format!("{level:<5} {target}: {}", line.message);
    for (name, value) in &line.fields {
        // Writing to a string cannot fail.
        let _ = write!(text, " {name}={value}");
    }
    if left_out > 0 {
        let _ = write!(text, " ({left_out} lines like this were left out)");
    }
    text.replace(['\n', '\r'], " ") + "\n"
}

fn as_json(vm: &str, level: &Level, target: &str, line: &Line, left_out: u64) -> String {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let fields: Map<String, Value> = line
        .fields
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect();
    let mut object = json!({
        "time": time.as_secs_f64(), "level": level.as_str(), "target": target, "vm": vm,
        "thread": std::thread::current().name().unwrap_or("unnamed"), "message": line.message,
    });
    if !fields.is_empty() {
        object["fields"] = fields.into();
    }
    if left_out > 0 {
        object["left_out"] = left_out.into();
    }
    object.to_string() + "\n"
}

impl Subscriber for StderrLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        !metadata.is_span() && *metadata.level() <= self.level
    }

    fn event(&self, event: &Event<'_>) {
        let now = Instant::now();
        let left_out = {
            let mut limits = lock(&self.limits);
            let limit = limits.entry(event.metadata().callsite());
            limit.or_insert_with(|| Limit::new(now)).take(now)
        };
        let Some(left_out) = left_out else { return };
        let mut line = Line::default();
        event.record(&mut line);
        let (level, target) = (event.metadata().level(), event.metadata().target());
        let json_of = self.json_of.as_deref();
        write(json_of, &format(json_of, level, target, &line, left_out));
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
