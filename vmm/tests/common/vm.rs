//! A VM in a folder of its own. Whatever a test does, the process is gone and the folder removed afterwards.

use std::fs;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vmm::client::Client;
use vmm::exit::ExitReport;

use super::payload::Payload;

/// Long enough for a busy machine, short enough to notice a hang.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether this host has KVM at all; tests of whole VMs have nothing to say without it.
pub(crate) fn has_kvm() -> bool {
    let usable = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .is_ok();
    if !usable {
        eprintln!("skipped: no usable /dev/kvm");
    }
    usable
}

/// Calls `done` until it returns something.
pub(crate) fn eventually<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(result) = done() {
            return result;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A configuration and its folder.
pub(crate) struct Spec {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) value: Value,
}

impl Spec {
    pub(crate) fn new(payload: &Payload) -> Self {
        Self::with_kernel(&payload.elf())
    }

    pub(crate) fn with_kernel(kernel: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("kernel"), kernel).unwrap();
        let run_dir = folder.path().join("run");
        let value = json!({
            "name": "test", "memory_bytes": 16 << 20, "run_dir": run_dir, "rng": false,
            "kernel": {"path": folder.path().join("kernel")},
        });
        Self { folder, value }
    }

    /// Changes a field.
    pub(crate) fn set(mut self, field: &str, value: Value) -> Self {
        self.value[field] = value;
        self
    }

    /// Writes a file beside the configuration.
    pub(crate) fn file(&self, name: &str, contents: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, contents).unwrap();
        path
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let config = self.file("spec.json", self.value.to_string().as_bytes());
        let mut command = Command::new(env!("CARGO_BIN_EXE_virga-vmm"));
        command
            .arg("--config")
            .arg(config)
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    /// Runs to the end: exit status and standard error.
    pub(crate) fn run_to_end(self) -> Ended {
        self.start().end()
    }

    fn run_command(&self) -> Command {
        let started = vmm::clock::now_us().to_string();
        let mut command = self.command(&["--start-time-us", &started]);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn start(self) -> Vm {
        self.start_with_stderr(Stdio::piped())
    }

    pub(crate) fn start_with_stderr(self, stderr: Stdio) -> Vm {
        let process = self.run_command().stderr(stderr).spawn().unwrap();
        Vm { process, spec: self }
    }

    /// Starts it as the daemon does: as the first process of a pid namespace.
    pub(crate) fn start_alone(self) -> Vm {
        let process = vmm::spawn::in_pid_namespace(self.run_command()).unwrap();
        Vm { process, spec: self }
    }
}

/// A running VM.
pub(crate) struct Vm {
    pub(crate) process: Child,
    pub(crate) spec: Spec,
}

/// What is left of a VM.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: Option<i32>,
    pub(crate) stderr: String,
    pub(crate) report: Option<ExitReport>,
    pub(crate) console: String,
}

impl Vm {
    pub(crate) fn run_dir(&self) -> PathBuf {
        self.spec.folder.path().join("run")
    }

    /// A client, once the VM answers.
    pub(crate) fn client(&mut self) -> Client {
        let run_dir = self.run_dir();
        eventually("the control socket", || {
            assert!(
                self.process.try_wait().unwrap().is_none(),
                "the VM ended early: {}",
                self.stderr()
            );
            Client::connect(&run_dir)
                .ok()
                .filter(|_| run_dir.join("pid.json").exists())
        })
    }

    fn stderr(&mut self) -> String {
        let mut text = String::new();
        if let Some(stderr) = &mut self.process.stderr {
            let _ = stderr.read_to_string(&mut text);
        }
        text
    }

    /// Attaches to the console.
    pub(crate) fn console(&mut self) -> UnixStream {
        let path = self.run_dir().join("console.sock");
        eventually("the console socket", || UnixStream::connect(&path).ok())
    }

    pub(crate) fn log(&self) -> String {
        read_lossy(&self.run_dir().join("console.log"))
    }

    /// Waits until the guest has printed `text`.
    pub(crate) fn wait_for(&mut self, text: &str) {
        eventually(text, || {
            let log = self.log();
            if !log.contains(text) && self.process.try_wait().unwrap().is_some() {
                panic!(
                    "the VM ended before it printed {text:?}: {}\n{log}",
                    self.stderr()
                );
            }
            log.contains(text).then_some(())
        });
    }

    /// Waits for the end.
    pub(crate) fn end(self) -> Ended {
        let log = self.run_dir().join("console.log");
        if log.exists() {
            self.end_with(&log).0
        } else {
            self.end_with(Path::new("/dev/null")).0
        }
    }
}

impl Vm {
    /// Waits for the end and returns the contents of a file in the VM's folder, too.
    pub(crate) fn end_with(mut self, path: &Path) -> (Ended, Vec<u8>) {
        let status = eventually("the end of the VM", || self.process.try_wait().unwrap());
        let ended = Ended {
            status: status.code(),
            stderr: self.stderr(),
            report: ExitReport::read(&self.run_dir()).unwrap(),
            console: self.log(),
        };
        (ended, fs::read(path).unwrap())
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn read_lossy(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}
