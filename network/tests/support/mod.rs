//! A host of their own for tests: a network namespace on a thread, machines plugged into it, and a state
//! directory. All of it disappears by drop, even when the test panics. No packet can leave, because nothing
//! leads out.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "each test file uses its part of this"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Permissions};
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use network::{BridgeConfig, HwAddr, Networks, Preset, VethSpec};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use tempfile::TempDir;

/// Runs a test in a network namespace of its own.
pub fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let story = move || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("tests of networks need root");
        mount(
            None::<&str>,
            "/",
            None::<&str>,
            MsFlags::MS_REC | MsFlags::MS_PRIVATE,
            None::<&str>,
        )
        .unwrap();
        mount(
            Some("sysfs"),
            "/sys",
            Some("sysfs"),
            MsFlags::empty(),
            None::<&str>,
        )
        .unwrap();
        sh("ip link set lo up");
        // Threads of this runtime start on this thread, and so live in its namespaces.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(test());
    };
    if let Err(panic) = std::thread::spawn(story).join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs a shell command in the namespace of this thread, and returns what it printed.
pub fn sh(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// Tries until it works, for things that other processes do in their own time.
pub fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A host with a state directory.
pub struct Host {
    pub networks: Networks,
    pub dir: PathBuf,
    _state: TempDir,
}

impl Host {
    pub fn new() -> Self {
        let state = TempDir::with_prefix("virga-network-").unwrap();
        fs::set_permissions(state.path(), Permissions::from_mode(0o711)).unwrap();
        let dir = state.path().join("networks");
        Self {
            networks: Networks::new(&dir).unwrap(),
            dir,
            _state: state,
        }
    }

    /// What a daemon that starts after this one would have.
    pub fn next_daemon(&self) -> Networks {
        Networks::new(&self.dir).unwrap()
    }

    /// The process numbers of dnsmasq for a network.
    pub fn servers(&self, network: &str) -> Vec<u32> {
        let mark = format!("--pid-file={}/{network}/", self.dir.display());
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&words).contains(&mark) {
                found.extend(entry.file_name().to_str().and_then(|pid| pid.parse::<u32>().ok()));
            }
        }
        found
    }

    /// Asserts that nothing of any network is left: link, table, process or folder.
    pub fn assert_empty(&self) {
        let links = sh("ip -o link show");
        assert!(!links.contains("virga:"), "{links}");
        assert_eq!(sh("nft list tables"), "");
        assert_eq!(self.servers(""), Vec::<u32>::new());
        let left: Vec<_> = fs::read_dir(&self.dir)
            .unwrap()
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let dir = self.dir.clone();
        // A runtime cannot run inside another; a new thread inherits the namespaces of this one.
        let cleaning = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async { Networks::new(&dir)?.recover(&BTreeSet::new()).await })
        });
        let outcome = cleaning.join();
        if !std::thread::panicking() {
            outcome.unwrap().unwrap();
        }
    }
}

/// The configuration of a network by its keys: `"ipv4.address=10.1.2.1/24 ipv6.address=none"`.
pub fn config(name: &str, keys: &str) -> BridgeConfig {
    BridgeConfig::from_keys(name, &self::keys(keys)).unwrap()
}

pub fn keys(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split_whitespace().map(|pair| pair.split_once('=').unwrap());
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

pub fn hwaddr(last: u8) -> HwAddr {
    HwAddr::from_bytes([0x10, 0x66, 0x6a, 0, 0, last]).unwrap()
}

/// A process with a network namespace of its own, as a container is.
pub struct Machine {
    child: Child,
}

impl Machine {
    pub fn new() -> Self {
        let mut command = Command::new("busybox");
        command
            .args(["sleep", "600"])
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        // SAFETY: unshare(2) is async-signal-safe; nothing is allocated between fork and exec.
        unsafe {
            command.pre_exec(|| unshare(CloneFlags::CLONE_NEWNET).map_err(Into::into));
        }
        Self {
            child: command.spawn().unwrap(),
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Runs a shell command inside.
    pub fn run(&self, command: &str) -> Output {
        let pid = self.pid().to_string();
        Command::new("nsenter")
            .args(["-t", &pid, "-n", "sh", "-c", command])
            .output()
            .unwrap()
    }

    /// Runs a shell command inside that has to succeed.
    pub fn sh(&self, command: &str) -> String {
        let output = self.run(command);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{command}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        text
    }

    /// Runs Rust inside, on a thread of its own.
    pub fn inside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> std::thread::JoinHandle<T> {
        let namespace = File::open(format!("/proc/{}/ns/net", self.pid())).unwrap();
        std::thread::spawn(move || {
            setns(&namespace, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        })
    }

    /// What a name resolves to for someone inside who asks `server`.
    pub fn resolve(&self, name: &str, server: &str) -> Option<String> {
        let output = self.run(&format!("busybox nslookup -type=a {name} {server}"));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        // The first address is the server's own.
        let answer = text.split("Name:").nth(1)?;
        answer.lines().find_map(|line| {
            line.strip_prefix("Address: ")
                .map(|address| address.trim().to_owned())
        })
    }

    /// Asks for a DHCP lease on eth0 and configures it; returns what it got as `ip router dns domain`.
    pub fn dhcp(&self, scratch: &Path) -> String {
        let script = scratch.join("udhcpc");
        let answer = scratch.join(format!("lease-{}", self.pid()));
        let text = format!(
            "#!/bin/sh\n[ \"$1\" = bound ] || exit 0\nip addr add $ip/$mask dev $interface\n\
             ip route add default via $router\necho $ip $router $dns $domain > {}\n",
            answer.display()
        );
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
        self.sh(&format!(
            "busybox udhcpc -f -n -q -t 10 -T 1 -i eth0 -s {}",
            script.display()
        ));
        let text = fs::read_to_string(&answer).unwrap();
        fs::remove_file(&answer).unwrap();
        fs::remove_file(&script).unwrap();
        text.trim().to_owned()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A veth pair as most tests want it.
pub fn veth(host_name: &str, bridge: &str, machine: &Machine, hwaddr: HwAddr) -> VethSpec {
    VethSpec {
        host_name: host_name.to_owned(),
        bridge: bridge.to_owned(),
        guest_name: "eth0".to_owned(),
        hwaddr,
        mtu: None,
        target_pid: machine.pid(),
        preset: None,
        isolated: false,
    }
}

/// The preset for one address with a router.
pub fn preset(address: &str, gateway: &str) -> Option<Preset> {
    Some(Preset {
        addresses: vec![address.parse().unwrap()],
        gateway4: Some(gateway.parse().unwrap()),
        gateway6: None,
    })
}
