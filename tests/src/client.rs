//! Command-line clients of a host's daemon, and what came of a call.

use std::ffi::OsStr;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

/// A program that talks to one daemon: `virga`, or the unmodified `incus`.
#[derive(Clone, Debug)]
pub struct Client {
    /// The program.
    pub program: PathBuf,
    /// Environment that leads it to the daemon.
    pub environment: Vec<(String, PathBuf)>,
}

/// What a call printed and how it ended.
#[derive(Debug)]
pub struct Outcome {
    /// The call, for messages.
    pub call: String,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Exit status; -1 when a signal ended it.
    pub status: i32,
}

impl Client {
    /// The call `arguments` as a command that was not started yet.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .envs(self.environment.iter().map(|(key, value)| (key, value)));
        command
    }

    /// Calls it with nothing on standard input.
    pub fn call<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Outcome {
        self.call_with_input(arguments, b"")
    }

    /// Calls it with `input` on standard input.
    pub fn call_with_input<S: AsRef<OsStr>>(&self, arguments: &[S], input: &[u8]) -> Outcome {
        let words: Vec<_> = arguments
            .iter()
            .map(|word| word.as_ref().to_string_lossy().into_owned())
            .collect();
        let call = format!("{} {}", self.program.display(), words.join(" "));
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|err| panic!("cannot start {call}: {err}"));
        let mut stdin = child.stdin.take();
        let output = std::thread::scope(|scope| {
            scope.spawn(move || {
                // A command that ends without reading is fine.
                let _ = stdin.take().map(|mut pipe| pipe.write_all(input));
            });
            child.wait_with_output()
        });
        let output = output.unwrap_or_else(|err| panic!("cannot wait for {call}: {err}"));
        Outcome {
            call,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            status: output.status.code().unwrap_or(-1),
        }
    }

    /// Calls it and expects success; gives standard output.
    pub fn ok<S: AsRef<OsStr>>(&self, arguments: &[S]) -> String {
        self.call(arguments).expect_success()
    }

    /// Calls it and expects a JSON document.
    pub fn json<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Value {
        let text = self.ok(arguments);
        serde_json::from_str(&text).unwrap_or_else(|err| panic!("no JSON ({err}): {text}"))
    }

    /// Calls it and expects a refusal whose message has `text`.
    pub fn refused<S: AsRef<OsStr>>(&self, arguments: &[S], text: &str) {
        let outcome = self.call(arguments);
        assert_ne!(
            outcome.status, 0,
            "{} was not refused: {}",
            outcome.call, outcome.stdout
        );
        assert!(
            outcome.stderr.contains(text),
            "{}: '{text}' is not in: {}",
            outcome.call,
            outcome.stderr
        );
    }
}

impl Outcome {
    /// Standard output of a call that has to have worked.
    pub fn expect_success(self) -> String {
        assert_eq!(
            self.status, 0,
            "{} failed ({}): {}{}",
            self.call, self.status, self.stderr, self.stdout
        );
        self.stdout
    }
}
