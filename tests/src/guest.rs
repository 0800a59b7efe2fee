//! A Linux guest on `virga-vmm` by itself: the guest kernel and an initrd of busybox with a script, no daemon.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vmm::client::Client;

use crate::host::dist;

/// Longer than any guest takes to boot on an emulated processor.
const PATIENCE: Duration = Duration::from_secs(180);

/// A guest and its folder; both are gone when this is.
pub struct Guest {
    folder: tempfile::TempDir,
    vmm: Child,
}

impl Guest {
    /// Starts a small guest whose first process is `script`, with `change` applied to its configuration.
    pub fn start(script: &str, change: impl FnOnce(&mut Value)) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("virga-guest.")
            .tempdir()
            .expect("a scratch directory");
        let run_dir = folder.path().join("run");
        std::fs::create_dir(&run_dir).expect("make a folder");
        let mut config = json!({
            "name": "guest",
            "vcpus": 1,
            "memory_bytes": 160 << 20,
            "kernel": {
                "path": dist().join("share/virga/vmlinux"),
                "cmdline": "console=ttyS0 quiet panic=-1",
                "initrd": [initrd(folder.path(), script)],
            },
            "run_dir": run_dir,
        });
        change(&mut config);
        let spec = folder.path().join("spec.json");
        std::fs::write(&spec, config.to_string()).expect("write the configuration");
        let vmm = Command::new(dist().join("bin/virga-vmm"))
            .arg("--config")
            .arg(&spec)
            .stdin(Stdio::null())
            .spawn()
            .expect("start virga-vmm");
        Self { folder, vmm }
    }

    /// The folder of sockets and reports.
    pub fn run_dir(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    /// What the guest has printed.
    pub fn console(&self) -> String {
        let log = std::fs::read(self.run_dir().join("console.log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// The VM's control socket, once it answers.
    pub fn client(&mut self) -> Client {
        let run_dir = self.run_dir();
        self.until("the control socket", |_| Client::connect(&run_dir).ok())
    }

    /// Types a line on the serial console.
    pub fn type_line(&mut self, line: &str) {
        let socket = self.run_dir().join("console.sock");
        let mut socket = UnixStream::connect(socket).expect("the console's socket");
        writeln!(socket, "{line}").expect("type");
    }

    /// Waits until the guest has printed this.
    pub fn wait_for(&mut self, text: &str) {
        self.until(text, |guest| guest.console().contains(text).then_some(()));
    }

    /// Calls `done` until it gives something.
    pub fn until<T>(&mut self, what: &str, mut done: impl FnMut(&Self) -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            // Before `done`, so that what an ended guest has said last is seen.
            let ended = self.vmm.try_wait().expect("wait for virga-vmm");
            if let Some(result) = done(self) {
                return result;
            }
            assert!(
                ended.is_none() && began.elapsed() < PATIENCE,
                "waited in vain for {what} ({ended:?}); the console:\n{}",
                self.console()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits for the end. Gives what the guest has printed, and the exit report.
    pub fn end(mut self) -> (String, Value) {
        let report = self.run_dir().join("exit.json");
        let report = self.until("its end", |_| std::fs::read_to_string(&report).ok());
        self.vmm.wait().expect("wait for virga-vmm");
        (
            self.console(),
            serde_json::from_str(&report).expect("a JSON report"),
        )
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.vmm.kill();
        let _ = self.vmm.wait();
    }
}

/// An initrd whose init is `script`, run by busybox.
pub fn initrd(folder: &Path, script: &str) -> PathBuf {
    let root = folder.join("initrd.d");
    for name in ["bin", "dev", "proc", "sys"] {
        std::fs::create_dir_all(root.join(name)).expect("make a folder");
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is installed");
    let init = format!(
        "#!/bin/busybox sh\nexport PATH=/bin\n/bin/busybox --install -s /bin\nmount -t proc proc /proc\nmount -t sysfs sysfs /sys\nmount -t devtmpfs dev /dev\nexec >/dev/console 2>&1\n{script}\n"
    );
    std::fs::write(root.join("init"), init).expect("write init");
    Command::new("chmod")
        .arg("755")
        .arg(root.join("init"))
        .status()
        .expect("chmod");
    let out = folder.join("initrd.cpio");
    let status = Command::new("sh")
        .args([
            "-c",
            "cd \"$1\" && find . | cpio -o -H newc --quiet > \"$2\"",
            "sh",
        ])
        .args([&root, &out])
        .status()
        .expect("cpio");
    assert!(status.success());
    out
}
