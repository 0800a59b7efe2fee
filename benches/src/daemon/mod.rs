//! The two daemons that are measured: Virga's and Debian's Incus, each contained in namespaces of its own (`contain.sh`),
//! on a scratch folder, with a `dir` pool, a bridge and the same image. Nothing that they make of links, rules and mounts is
//! seen by the host, and no packet leaves. Each is idle while the other one is measured.

mod client;
mod leftovers;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use tempfile::TempDir;

pub use client::Client;
use leftovers::Leftovers;

use crate::interrupt;
use crate::memory;
use crate::process::{self, Process, last_words};
use crate::setting::Setting;

/// What runs as first process of the namespaces.
const CONTAIN: &str = include_str!("contain.sh");
/// A daemon that is not ready by then has failed.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// Time to end in good order.
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// Incus' bridge. It is given an address so that Incus need not look for one by sending packets.
const BRIDGE: (&str, &str) = ("benchbr0", "10.147.9.1/24");

/// A running daemon.
pub struct Daemon {
    /// Name in the report.
    pub name: &'static str,
    /// How long it took from its start until it was ready.
    pub start: Duration,
    /// Where it listens.
    pub socket: PathBuf,
    program: &'static str,
    process: Process,
    folder: TempDir,
    _leftovers: Leftovers,
}

/// Why nothing can be measured here at all.
pub fn obstacle(setting: &Setting) -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("only root can run the daemons".to_owned());
    }
    match &setting.image {
        None => Some("no image; give --image FILE".to_owned()),
        Some(image) if !image.is_file() => Some(format!("{} does not exist", image.display())),
        Some(_) => None,
    }
}

/// Virga first, then its peer; ready, with the image.
pub fn all(setting: &Setting) -> Vec<Result<Daemon, String>> {
    if let Some(obstacle) = obstacle(setting) {
        return vec![Err(obstacle.clone()), Err(obstacle)];
    }
    let text = |error: anyhow::Error| format!("{error:#}");
    let virga = setting
        .program("virgad")
        .and_then(|program| Daemon::virga(&program, setting).map_err(text));
    let incus = match setting.peers.get("incus") {
        None => Err("give --peer incus=FOLDER with Debian's unpacked package; ci/bench does".to_owned()),
        Some(tree) => Daemon::incus(tree, setting).map_err(text),
    };
    for (name, daemon) in [("virgad", &virga), ("incusd", &incus)] {
        if let Err(reason) = daemon {
            setting.remark(&format!("{name}: {reason}"));
        }
    }
    vec![virga, incus]
}

impl Daemon {
    fn virga(program: &Path, setting: &Setting) -> Result<Self> {
        let mut daemon = Self::begin("virga", "virgad", None, &["/1.0"], |folder| {
            let mut command = Command::new(program);
            command.arg("--state-dir").arg(folder.join("state"));
            command
        })?;
        daemon.import(setting)?;
        Ok(daemon)
    }

    fn incus(tree: &Path, setting: &Setting) -> Result<Self> {
        let program = "usr/libexec/incus/incusd";
        ensure!(
            tree.join(program).is_file(),
            "{} has no {program}",
            tree.display()
        );
        let mut daemon = Self::begin(
            "incus",
            "incusd",
            Some(tree),
            &["/1.0", "/internal/ready"],
            |folder| {
                let mut command = Command::new(Path::new("/").join(program));
                command
                    .args(["--group", "root"])
                    .env("INCUS_DIR", folder.join("state"));
                command
            },
        )?;
        let mut client = daemon.client()?;
        client.call(
            "POST",
            "/1.0/storage-pools",
            &json!({ "name": "default", "driver": "dir" }),
        )?;
        let keys = json!({ "ipv4.address": BRIDGE.1, "ipv4.nat": "true", "ipv6.address": "none" });
        client.call(
            "POST",
            "/1.0/networks",
            &json!({ "name": BRIDGE.0, "type": "bridge", "config": keys }),
        )?;
        let devices = json!({
            "root": { "type": "disk", "path": "/", "pool": "default" },
            "eth0": { "type": "nic", "network": BRIDGE.0, "name": "eth0" },
        });
        client.call(
            "PUT",
            "/1.0/profiles/default",
            &json!({ "config": {}, "description": "", "devices": devices }),
        )?;
        daemon.import(setting)?;
        Ok(daemon)
    }

    fn begin(
        name: &'static str,
        program: &'static str,
        tree: Option<&Path>,
        ready: &[&str],
        command: impl Fn(&Path) -> Command,
    ) -> Result<Self> {
        eprintln!("{program}: starting");
        let folder =
            TempDir::with_prefix(format!("virga-bench-{name}.")).context("cannot make a scratch folder")?;
        let leftovers = Leftovers::note();
        let daemon = command(folder.path());
        fs::create_dir(folder.path().join("state")).context("cannot make a state folder")?;
        let log = File::create(folder.path().join("log")).context("cannot make a log file")?;
        let mut contained = Command::new("unshare");
        contained.args(["--net", "--mount", "--propagation", "private"]);
        contained.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
        contained.args(["bash", "-c", CONTAIN, "contain"]);
        contained.arg(tree.unwrap_or(Path::new(""))).arg(folder.path());
        contained.arg(daemon.get_program()).args(daemon.get_args());
        for (key, value) in daemon.get_envs() {
            contained.env(key, value.unwrap_or_default());
        }
        contained
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log);
        let began = Instant::now();
        let process = Process::start(&mut contained)?;
        let socket = folder.path().join("state/unix.socket");
        let mut daemon = Self {
            name,
            start: Duration::ZERO,
            socket,
            program,
            process,
            folder,
            _leftovers: leftovers,
        };
        for path in ready {
            daemon.wait_until_ready(began, path)?;
        }
        daemon.start = began.elapsed();
        Ok(daemon)
    }

    fn wait_until_ready(&mut self, began: Instant, path: &str) -> Result<()> {
        loop {
            interrupt::check()?;
            let answer = Client::open(&self.socket).and_then(|mut client| client.get(path));
            let Err(error) = answer else { return Ok(()) };
            if self.process.ended()?.is_some() {
                bail!("it ended: {}", self.last_words());
            }
            if began.elapsed() > READY_LIMIT {
                bail!(
                    "it was not ready after {} s: {error:#}: {}",
                    READY_LIMIT.as_secs(),
                    self.last_words()
                );
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn import(&mut self, setting: &Setting) -> Result<()> {
        let image = setting.image.as_deref().context("no image")?;
        let bytes = fs::read(image).with_context(|| format!("cannot read {}", image.display()))?;
        let mut client = self.client()?;
        let done = client.upload("/1.0/images", &bytes)?;
        let fingerprint = done["metadata"]["fingerprint"]
            .as_str()
            .context("the import has no fingerprint")?;
        client.call(
            "POST",
            "/1.0/images/aliases",
            &json!({ "name": "bench", "target": fingerprint }),
        )?;
        Ok(())
    }

    /// A connection to it.
    pub fn client(&self) -> Result<Client> {
        Client::open(&self.socket)
    }

    /// Resident memory of the daemon itself.
    pub fn resident_bytes(&self) -> Result<u64> {
        memory::resident_bytes(process::descendant_named(self.process.id(), self.program)?)
    }

    fn last_words(&self) -> String {
        last_words(&fs::read_to_string(self.folder.path().join("log")).unwrap_or_default())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // While it still can, it takes away what is not in its namespaces: cgroups.
        if matches!(self.process.ended(), Ok(None))
            && let Ok(mut client) = self.client()
            && let Err(error) = client.delete_all_instances()
        {
            eprintln!("{}: {error:#}", self.program);
        }
        drop(self.process.take_input());
        if !self.process.wait_for(STOP_LIMIT).unwrap_or(false) {
            eprintln!(
                "{}: it did not end within {} s and is killed",
                self.program,
                STOP_LIMIT.as_secs()
            );
        }
        // Dropping the process kills what is left in its namespaces; then the cgroups are empty.
    }
}
