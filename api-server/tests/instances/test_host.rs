//! [`TestHost`]: a host of the test's own, with a daemon that can be killed and started again.
//!
//! Its network namespace is held by a process that outlives the daemon, so that what a killed daemon leaves stays to be seen.
//! Dropping the host ends everything in it.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::Client;
use crate::image;

/// How long a daemon may take to serve, or to die.
const PATIENCE: Duration = Duration::from_secs(60);

/// What makes a namespace usable: its own sysfs (which shows its links) with the host's cgroups in it, and a loopback.
const SET_UP: &str = r#"set -e
keep=$(mktemp -d); mount --rbind /sys/fs/cgroup "$keep"; mount -t sysfs sysfs /sys
mount --rbind "$keep" /sys/fs/cgroup; umount -l "$keep"; rmdir "$keep"; ip link set lo up
echo ready; exec sleep 100000"#;

pub(crate) struct TestHost {
    dir: TempDir,
    holder: Child,
    daemon: Option<Child>,
    pub(crate) api: Client,
    image: PathBuf,
}

impl TestHost {
    /// A host with a daemon that serves and an image `bb`.
    pub(crate) async fn start() -> Self {
        let mut host = Self::without_daemon();
        host.run_daemon(&[]).await;
        host.import_image().await;
        host
    }

    fn without_daemon() -> Self {
        assert!(nix::unistd::geteuid().is_root(), "containers need root");
        let dir = tempfile::Builder::new().prefix("virga-test-").tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        let mut holder = Command::new("unshare")
            .args(["--net", "--mount", "--propagation", "private", "sh", "-c", SET_UP])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = std::io::BufReader::new(holder.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut output, &mut line).unwrap();
        assert_eq!(line.trim(), "ready");
        let image = image::make(dir.path());
        let api = Client::new(&dir.path().join("state/unix.socket"));
        Self {
            dir,
            holder,
            daemon: None,
            api,
            image,
        }
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// A command that runs in this host.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let holder = self.holder.id();
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/proc/{holder}/ns/net"))
            .arg(format!("--mount=/proc/{holder}/ns/mnt"));
        command.arg(program);
        command
    }

    /// Starts a daemon with these variables and waits until it serves.
    pub(crate) async fn run_daemon(&mut self, environment: &[(&str, &str)]) {
        self.spawn_daemon(environment);
        let deadline = Instant::now() + PATIENCE;
        while self
            .api
            .try_request("GET", "/1.0", &[], Vec::new())
            .await
            .is_err()
        {
            assert!(
                Instant::now() < deadline,
                "the daemon does not serve: {}",
                self.log()
            );
            if let Some(status) = self.daemon.as_mut().unwrap().try_wait().unwrap() {
                panic!("the daemon ended ({status}): {}", self.log());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn spawn_daemon(&mut self, environment: &[(&str, &str)]) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.path().join("log"))
            .unwrap();
        let mut command = self.command(env!("CARGO_BIN_EXE_virgad"));
        command.arg("--state-dir").arg(self.state_dir()).arg("-v");
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        command.envs(environment.iter().copied());
        self.daemon = Some(command.spawn().unwrap());
    }

    pub(crate) fn log(&self) -> String {
        let text = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    pub(crate) fn kill_daemon(&mut self) {
        let mut daemon = self.daemon.take().expect("a daemon runs");
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }

    /// Waits for a daemon to die on its own, and returns how.
    pub(crate) async fn daemon_death(&mut self) -> ExitStatus {
        let mut daemon = self.daemon.take().expect("a daemon runs");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = daemon.try_wait().unwrap() {
                return status;
            }
            if Instant::now() > deadline {
                let _ = daemon.kill();
                let _ = daemon.wait();
                panic!("the daemon lives on: {}", self.log());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn import_image(&self) {
        let content = std::fs::read(&self.image).unwrap();
        let headers = [
            ("content-type", "application/octet-stream"),
            ("x-incus-filename", "image.tar.gz"),
        ];
        let answer = self
            .api
            .try_request("POST", "/1.0/images", &headers, content)
            .await
            .unwrap();
        let url = answer.json()["operation"]
            .as_str()
            .unwrap_or_else(|| panic!("{}", answer.json()))
            .to_owned();
        let operation = self.api.get(&format!("{url}/wait")).await;
        assert_eq!(operation["status"], "Success", "{operation}");
        let fingerprint = operation["metadata"]["fingerprint"].clone();
        let alias = json!({ "name": "bb", "target": fingerprint });
        self.api.request("POST", "/1.0/images/aliases", alias).await;
    }

    /// The request for a container of the image.
    pub(crate) fn container(name: &str, start: bool) -> Value {
        json!({ "name": name, "type": "container", "source": { "type": "image", "alias": "bb" }, "start": start })
    }

    pub(crate) async fn launch(&self, name: &str) {
        self.api
            .succeed("POST", "/1.0/instances", Self::container(name, true))
            .await;
    }

    pub(crate) async fn status(&self, name: &str) -> String {
        self.api.get(&format!("/1.0/instances/{name}")).await["status"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Waits until an instance has a status.
    pub(crate) async fn wait_for_status(&self, name: &str, wanted: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.status(name).await != wanted {
            assert!(
                Instant::now() < deadline,
                "{name} does not become {wanted}: {}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn set_state(&self, name: &str, action: &str, force: bool) {
        let wanted = json!({ "action": action, "force": force, "timeout": 30 });
        self.api
            .succeed("PUT", &format!("/1.0/instances/{name}/state"), wanted)
            .await;
    }

    /// Runs a command in an instance without websockets; returns its status and what it printed.
    pub(crate) async fn run(&self, name: &str, command: &[&str]) -> (i64, String) {
        let wanted = json!({ "command": command, "record-output": true, "wait-for-websocket": false });
        let done = self
            .api
            .succeed("POST", &format!("/1.0/instances/{name}/exec"), wanted)
            .await;
        let output = done["output"]["1"].as_str().unwrap();
        let answer = self.api.request("GET", output, Value::Null).await;
        (
            done["return"].as_i64().unwrap(),
            String::from_utf8(answer.body.to_vec()).unwrap(),
        )
    }

    /// Runs a command that may take the instance away with it.
    pub(crate) async fn run_last(&self, name: &str, command: &[&str]) {
        let wanted = json!({ "command": command, "wait-for-websocket": false });
        self.api
            .operation("POST", &format!("/1.0/instances/{name}/exec"), wanted)
            .await;
    }

    /// Links of the host that belong to instances.
    pub(crate) fn instance_links(&self) -> Vec<String> {
        let output = self.command("ls").arg("/sys/class/net").output().unwrap();
        let names = String::from_utf8(output.stdout).unwrap();
        let is_port = |name: &&str| name.starts_with("veth") || name.starts_with("tap");
        names
            .split_whitespace()
            .filter(is_port)
            .map(str::to_owned)
            .collect()
    }

    /// Supervisors of this host, by process id.
    pub(crate) fn supervisors(&self) -> Vec<i32> {
        let mark = self.state_dir().to_string_lossy().into_owned();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else {
                continue;
            };
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains("monitor --run-dir") && line.contains(&mark) {
                found.push(pid);
            }
        }
        found
    }

    /// Names in a folder of the state directory.
    pub(crate) fn names_in(&self, folder: impl AsRef<Path>) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.state_dir().join(folder)) else {
            return Vec::new();
        };
        let mut names: Vec<String> = entries
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// Control groups of an instance of this name.
    pub(crate) fn cgroups(&self, name: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let hierarchies = std::fs::read_dir("/sys/fs/cgroup")
            .unwrap()
            .flatten()
            .map(|entry| entry.path());
        for hierarchy in hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]) {
            let Ok(groups) = std::fs::read_dir(hierarchy.join("virga")) else {
                continue;
            };
            let is_ours = |group: &PathBuf| {
                let group = group
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                group == name || group.starts_with(&format!("{name}-"))
            };
            found.extend(groups.flatten().map(|group| group.path()).filter(is_ours));
        }
        found
    }
}

/// Whether a process was killed by SIGKILL.
pub(crate) fn was_killed(status: ExitStatus) -> bool {
    status.signal() == Some(9)
}

impl Drop for TestHost {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the daemon's last words:\n{}", self.log());
        }
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        for pid in self.supervisors() {
            // A monitor that is asked to end takes its container with it.
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
        }
        for name in self.names_in("run") {
            let _ = container_runtime::cleanup(&self.state_dir().join("run").join(name));
        }
        self.stop_dnsmasq();
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

impl TestHost {
    fn stop_dnsmasq(&self) {
        for network in self.names_in("networks") {
            let file = self
                .state_dir()
                .join("networks")
                .join(network)
                .join("dnsmasq.pid");
            let pid = std::fs::read_to_string(file)
                .ok()
                .and_then(|text| text.trim().parse::<i32>().ok());
            let is_dnsmasq = |pid: &i32| {
                std::fs::read_to_string(format!("/proc/{pid}/comm"))
                    .is_ok_and(|comm| comm.trim() == "dnsmasq")
            };
            if let Some(pid) = pid.filter(is_dnsmasq) {
                let _ = nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(pid),
                    nix::sys::signal::Signal::SIGKILL,
                );
            }
        }
    }
}
