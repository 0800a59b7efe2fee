//! A host: namespaces with a daemon in them.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::client::Client;

/// Emulated hosts are slow; on a real one nothing waits that long.
const PATIENCE: Duration = Duration::from_secs(300);

/// Where the built programs are.
pub fn dist() -> PathBuf {
    match std::env::var_os("VIRGA_DIST") {
        Some(path) => path.into(),
        None => panic!("VIRGA_DIST is not set; run these tests by ci/test client"),
    }
}

/// Our own command line's program.
pub fn virga() -> PathBuf {
    dist().join("bin/virga")
}

/// A daemon with network and mount namespaces and a state directory of its own.
#[derive(Debug)]
pub struct Host {
    scratch: TempDir,
    /// Keeps the namespaces alive while the daemon is down.
    holder: Child,
    daemon: Option<Child>,
    arguments: Vec<String>,
}

impl Host {
    /// Makes the namespaces and starts the daemon in them.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// As `start`, with more arguments for the daemon.
    pub fn start_with(arguments: &[&str]) -> Self {
        let scratch = tempfile::Builder::new()
            .prefix("virga-e2e.")
            .tempdir()
            .expect("a scratch directory");
        let isolate = std::env::var_os("VIRGA_ISOLATE").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../ci/lib/isolate"),
            PathBuf::from,
        );
        let holder = Command::new(isolate)
            .args(["sleep", "1000000"])
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("namespaces of its own need root");
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let mut host = Self {
            scratch,
            holder,
            daemon: None,
            arguments,
        };
        host.wait_for("the namespaces", |host| {
            let comm = fs::read_to_string(format!("/proc/{}/comm", host.holder.id())).unwrap_or_default();
            comm.trim() == "sleep"
        });
        host.start_daemon();
        host
    }

    /// The daemon's state directory.
    pub fn state_dir(&self) -> PathBuf {
        self.scratch.path().join("s")
    }

    /// A place for files of the test.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// Starts the daemon and waits until it answers.
    pub fn start_daemon(&mut self) {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.scratch.path().join("virgad.log"))
            .expect("the daemon's log");
        let errors = log.try_clone().expect("the daemon's log");
        let child = self
            .inside(&dist().join("bin/virgad").to_string_lossy())
            .arg("--state-dir")
            .arg(self.state_dir())
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .expect("nsenter");
        self.daemon = Some(child);
        self.wait_for("the daemon", |host| {
            let daemon = host
                .daemon
                .as_mut()
                .and_then(|child| child.try_wait().ok().flatten());
            assert!(daemon.is_none(), "the daemon ended: {}", host.daemon_log());
            host.virga().call(&["daemon", "status"]).status == 0
        });
    }

    /// The daemon's pid.
    pub fn daemon_pid(&self) -> u32 {
        self.daemon.as_ref().map_or(0, Child::id)
    }

    /// Ends the daemon without giving it a chance.
    pub fn kill_daemon(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().expect("kill the daemon");
            daemon.wait().expect("wait for the daemon");
        }
    }

    /// Ends the daemon as an init system does, and gives its exit status.
    pub fn stop_daemon(&mut self) -> Option<i32> {
        let mut daemon = self.daemon.take()?;
        let pid = Pid::from_raw(i32::try_from(daemon.id()).expect("a pid"));
        kill(pid, Signal::SIGTERM).expect("signal the daemon");
        daemon.wait().expect("wait for the daemon").code()
    }

    /// What the daemon has logged.
    pub fn daemon_log(&self) -> String {
        fs::read_to_string(self.scratch.path().join("virgad.log")).unwrap_or_default()
    }

    /// A command in the host's namespaces.
    pub fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args([
            "--target",
            &self.holder.id().to_string(),
            "--net",
            "--mount",
            program,
        ]);
        command
    }

    /// Our own command line.
    pub fn virga(&self) -> Client {
        Client {
            program: virga(),
            environment: vec![("VIRGA_SOCKET".into(), self.state_dir().join("unix.socket"))],
        }
    }

    /// The unmodified incus client, with a configuration folder of its own.
    pub fn incus(&self) -> Client {
        let Some(program) = std::env::var_os("VIRGA_INCUS_CLIENT") else {
            panic!("VIRGA_INCUS_CLIENT is not set; run these tests by ci/test client")
        };
        Client {
            program: program.into(),
            environment: vec![
                ("INCUS_SOCKET".into(), self.state_dir().join("unix.socket")),
                ("INCUS_CONF".into(), self.scratch.path().join("incus")),
                ("HOME".into(), self.scratch.path().into()),
            ],
        }
    }

    /// Imports the busybox image under the alias `bb`.
    pub fn import_busybox(&self) {
        self.virga().ok(&[
            "image",
            "import",
            &image("VIRGA_TEST_BUSYBOX_IMAGE"),
            "--alias",
            "bb",
        ]);
    }

    /// Imports the Debian image under the alias `debian`.
    pub fn import_debian(&self) {
        self.virga().ok(&[
            "image",
            "import",
            &image("VIRGA_TEST_DEBIAN_IMAGE"),
            "--alias",
            "debian",
        ]);
    }

    /// An instance's state as the API gives it.
    pub fn state_of(&self, name: &str) -> Value {
        self.virga()
            .json(&["query", &format!("/1.0/instances/{name}/state")])
    }

    /// Waits until `step` is true, and fails loudly with the daemon's log when it never is.
    pub fn wait_for(&mut self, what: &str, mut step: impl FnMut(&mut Self) -> bool) {
        let began = Instant::now();
        while !step(self) {
            assert!(
                began.elapsed() < PATIENCE,
                "{what} did not come about; the daemon's log:\n{}",
                self.daemon_log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Names of the links in the host's network, without loopback.
    pub fn links(&self) -> Vec<String> {
        let output = self.inside("ip").args(["-j", "link"]).output().expect("ip link");
        let links: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let names = links
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|link| link["ifname"].as_str());
        names.filter(|name| *name != "lo").map(str::to_owned).collect()
    }

    /// Pids and command lines of processes that name the state directory, without the daemon and dnsmasq.
    pub fn supervisors(&self) -> Vec<(u32, String)> {
        let wanted = self.state_dir().to_string_lossy().into_owned();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").expect("/proc").flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
                continue;
            };
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains(&wanted) && (line.contains("virga-run") || line.contains("virga-vmm")) {
                found.push((pid, line));
            }
        }
        found
    }

    /// The ends of the instances' logs and consoles, for whoever reads why a test failed.
    fn print_instance_logs(&self) {
        for folder in fs::read_dir(self.state_dir().join("logs"))
            .into_iter()
            .flatten()
            .flatten()
        {
            for log in fs::read_dir(folder.path()).into_iter().flatten().flatten() {
                let text = fs::read(log.path()).unwrap_or_default();
                let end = &text[text.len().saturating_sub(4000)..];
                eprintln!("--- {}\n{}", log.path().display(), String::from_utf8_lossy(end));
            }
        }
    }

    /// Mounts that lie under the state directory, as any process of the host's namespace sees them.
    pub fn mounts(&self) -> Vec<String> {
        let wanted = self.state_dir().to_string_lossy().into_owned();
        let table = fs::read_to_string(format!("/proc/{}/mountinfo", self.holder.id())).unwrap_or_default();
        table
            .lines()
            .filter(|line| line.contains(&wanted))
            .map(str::to_owned)
            .collect()
    }
}

fn image(variable: &str) -> String {
    std::env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} is not set; run these tests by ci/test client"))
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the daemon's log\n{}", self.daemon_log());
            self.print_instance_logs();
        }
        self.stop_daemon();
        // Whatever still runs in the namespaces ends with them: every process in this network namespace.
        let own = fs::read_link(format!("/proc/{}/ns/net", self.holder.id())).ok();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else {
                continue;
            };
            if own.is_some() && fs::read_link(entry.path().join("ns/net")).ok() == own {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
