//! Containers for tests: a busybox image made in a scratch directory, a monitor, a client, and everything gone on drop.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use container_runtime::client::Client;
use container_runtime::run_dir::{self, read_document, write_document};
use container_runtime::spec::{ContainerSpec, IdMap};
use container_runtime::state::{ExitFile, PidFile};
use guest_agent::protocol::ExecRequest;

/// The program under test.
pub const VIRGA_RUN: &str = env!("CARGO_BIN_EXE_virga-run");
/// Nothing here takes that long unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// Busybox with a link for each of its programs.
pub fn busybox_image(root: &Path) {
    for dir in ["bin", "sbin", "etc", "proc", "sys", "dev", "tmp", "root", "run"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is installed");
    let list = Command::new("/bin/busybox").arg("--list").output().unwrap();
    for name in String::from_utf8(list.stdout)
        .unwrap()
        .lines()
        .filter(|name| *name != "busybox")
    {
        symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    symlink("../bin/busybox", root.join("sbin/init")).unwrap();
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n",
    )
    .unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\nuser:x:1000:\n").unwrap();
    fs::write(
        root.join("etc/inittab"),
        "::sysinit:/bin/echo up\n::respawn:/bin/sleep 1000\n",
    )
    .unwrap();
}

/// A container of its own.
pub struct TestContainer {
    pub dir: tempfile::TempDir,
    pub spec: ContainerSpec,
    monitor: Option<Child>,
}

impl TestContainer {
    /// With a busybox image and an id range of its own.
    pub fn new(init: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("rootfs");
        busybox_image(&root);
        Self::with_root(dir, root, init)
    }

    /// With an image that is there already.
    pub fn with_root(dir: tempfile::TempDir, root: PathBuf, init: &[&str]) -> Self {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let mut spec = ContainerSpec::new(
            &format!("test{number}"),
            root,
            dir.path().join("console.log"),
            init,
        );
        spec.idmap = Some(IdMap {
            host_base: 0x1000_0000 + (std::process::id() % 4096) * 65536,
            range: 65536,
        });
        Self {
            dir,
            spec,
            monitor: None,
        }
    }

    /// Whose init runs a script.
    pub fn script(script: &str) -> Self {
        Self::new(&["/bin/sh", "-c", script])
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn rootfs(&self) -> &Path {
        &self.spec.rootfs
    }

    /// Starts the monitor and waits until it accepts or has failed.
    pub fn create(&mut self) {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        for old in [run_dir::PID, run_dir::EXIT] {
            let _ = fs::remove_file(self.path().join(old));
        }
        write_document(self.path(), run_dir::SPEC, &self.spec, false).unwrap();
        let log = fs::File::create(self.path().join(format!("virga-{number}.log"))).unwrap();
        let child = Command::new(VIRGA_RUN)
            .arg("monitor")
            .arg("--run-dir")
            .arg(self.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.monitor = Some(child);
        self.until("the monitor accepts", |c| {
            c.path().join(run_dir::PID).exists() || c.path().join(run_dir::EXIT).exists()
        });
    }

    /// Creates and starts.
    pub fn start(&mut self) {
        self.create();
        self.client().start().unwrap();
    }

    pub fn client(&self) -> Client {
        Client::connect(self.path()).unwrap_or_else(|e| panic!("{}: {:?}", e.chain(), self.exit_file()))
    }

    pub fn monitor_pid(&self) -> i32 {
        read_document::<PidFile>(self.path(), run_dir::PID)
            .unwrap()
            .unwrap()
            .pid
    }

    pub fn init_pid(&self) -> i32 {
        self.client().state().unwrap().init_pid
    }

    pub fn exit_file(&self) -> Option<ExitFile> {
        read_document(self.path(), run_dir::EXIT).unwrap()
    }

    /// Waits for the end.
    pub fn wait(&mut self) -> ExitFile {
        self.until("exit.json is there", |c| c.exit_file().is_some());
        if let Some(mut monitor) = self.monitor.take() {
            monitor.wait().unwrap();
        }
        self.exit_file().unwrap()
    }

    /// Runs it from start to end: console output and how it ended.
    pub fn run(&mut self) -> (String, ExitFile) {
        self.start();
        let exit = self.wait();
        (self.console(), exit)
    }

    pub fn console(&self) -> String {
        let mut text = Vec::new();
        if let Ok(mut file) = fs::File::open(&self.spec.console_log) {
            file.read_to_end(&mut text).unwrap();
        }
        String::from_utf8_lossy(&text).replace('\r', "")
    }

    /// Waits until the console shows a text.
    pub fn until_console(&self, text: &str) {
        self.until(&format!("{text:?} is on the console"), |c| {
            c.console().contains(text)
        });
    }

    pub fn until(&self, what: &str, reached: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !reached(self) {
            assert!(
                Instant::now() < deadline,
                "waited in vain until {what}; console:\n{}",
                self.console()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The container's directories in all cgroup hierarchies.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let name = run_dir::cgroup_name(&self.spec.name, self.path());
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        mounts
            .lines()
            .filter(|line| {
                line.split(' ')
                    .nth(2)
                    .is_some_and(|kind| kind.starts_with("cgroup"))
            })
            .filter_map(|line| line.split(' ').nth(1))
            .map(|mount| Path::new(mount).join(&name))
            .filter(|path| path.exists())
            .collect()
    }

    /// Runs a command inside through the agent: output, error output, status.
    pub async fn exec(&self, command: &[&str]) -> (String, String, i32) {
        let request = ExecRequest {
            command: command.iter().map(|&word| word.to_owned()).collect(),
            ..ExecRequest::default()
        };
        let stream = guest_agent::client::exec(self.attach(), request).await.unwrap();
        let (out, err, status) = stream.events.collect().await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (text(out), text(err), status)
    }

    pub fn attach(&self) -> tokio::net::UnixStream {
        let stream = container_runtime::agent::attach(Path::new(VIRGA_RUN), self.path()).unwrap();
        stream.set_nonblocking(true).unwrap();
        tokio::net::UnixStream::from_std(stream).unwrap()
    }

    /// Kills the monitor in the middle of whatever it does.
    pub fn kill_monitor(&mut self) {
        let mut monitor = self.monitor.take().unwrap();
        monitor.kill().unwrap();
        monitor.wait().unwrap();
    }

    /// Asks the monitor to end.
    pub fn terminate_monitor(&self) {
        // SAFETY: plain integers; the monitor is our child and not yet waited for.
        unsafe { libc::kill(self.monitor_pid(), libc::SIGTERM) };
    }
}

impl Drop for TestContainer {
    fn drop(&mut self) {
        if let Some(mut monitor) = self.monitor.take() {
            let _ = monitor.kill();
            let _ = monitor.wait();
        }
        if let Err(error) = container_runtime::cleanup(self.path()) {
            let _ = writeln!(std::io::stderr(), "cleanup: {}", error.chain());
        }
    }
}

/// Field of `/proc/PID/status`.
pub fn status_field(pid: i32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line[name.len() + 1..].trim().to_owned()
}
