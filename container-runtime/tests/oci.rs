//! The OCI runtime command line over real bundles.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A bundle, and a root for the runtime's state.
struct Bundle {
    dir: tempfile::TempDir,
    config: Value,
}

impl Bundle {
    fn new(args: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        common::busybox_image(&dir.path().join("rootfs"));
        let caps = json!(["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
        let config = json!({
            "ociVersion": "1.2.0",
            "root": {"path": "rootfs"},
            "hostname": "bundle",
            "process": {
                "args": args, "cwd": "/", "user": {"uid": 0, "gid": 0},
                "env": ["PATH=/bin:/sbin", "WORD=given"],
                "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
                "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 64}],
                "noNewPrivileges": true
            },
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                 "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                 "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
                {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777"]},
                {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
                {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                 "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}
            ],
            "linux": {
                "namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}],
                "maskedPaths": ["/proc/kcore", "/proc/keys", "/sys/firmware"],
                "readonlyPaths": ["/proc/sys", "/proc/sysrq-trigger"],
                "resources": {"devices": [{"allow": false, "access": "rwm"}]}
            },
            "annotations": {"org.example": "yes"}
        });
        Self { dir, config }
    }

    fn script(script: &str) -> Self {
        Self::new(&["sh", "-c", script])
    }

    /// Unlike that of any other test, also of one running beside this.
    fn id(&self) -> String {
        self.dir
            .path()
            .file_name()
            .unwrap()
            .to_string_lossy()
            .replace('.', "oci")
    }

    fn write(&self) {
        fs::write(self.dir.path().join("config.json"), self.config.to_string()).unwrap();
    }

    fn runtime(&self, arguments: &[&str]) -> Output {
        let root = self.dir.path().join("state");
        Command::new(common::VIRGA_RUN)
            .arg("oci")
            .arg("--root")
            .arg(root)
            .args(arguments)
            .output()
            .unwrap()
    }

    fn run(&self) -> (String, i32) {
        self.write();
        let bundle = self.dir.path().to_str().unwrap();
        let output = self.runtime(&["run", "--bundle", bundle, &self.id()]);
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (text, output.status.code().unwrap())
    }

    /// With standard output in a file: a pipe would be held by the container.
    fn create(&self) {
        self.write();
        let out = fs::File::create(self.dir.path().join("out")).unwrap();
        let status = Command::new(common::VIRGA_RUN)
            .args(["oci", "--root"])
            .arg(self.dir.path().join("state"))
            .args(["create", "--bundle"])
            .arg(self.dir.path())
            .arg("--pid-file")
            .arg(self.dir.path().join("pid"))
            .arg(self.id())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .status()
            .unwrap();
        assert!(status.success(), "{}", self.output());
    }

    fn output(&self) -> String {
        fs::read_to_string(self.dir.path().join("out")).unwrap()
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.runtime(arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    fn status(&self) -> String {
        let state: Value = serde_json::from_str(&self.ok(&["state", &self.id()])).unwrap();
        assert_eq!(state["annotations"]["org.example"], "yes");
        state["status"].as_str().unwrap().to_owned()
    }

    fn until(&self, what: &str, reached: impl Fn() -> bool) {
        let deadline = Instant::now() + common::PATIENCE;
        while !reached() {
            assert!(
                Instant::now() < deadline,
                "waited in vain until {what}: {}",
                self.output()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn cgroup_left(&self) -> bool {
        fs::read_dir("/sys/fs/cgroup")
            .unwrap()
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .chain([Path::new("/sys/fs/cgroup").to_path_buf()])
            .any(|mount| mount.join("virga").join(self.id()).exists())
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        self.runtime(&["delete", "--force", &self.id()]);
    }
}

#[test]
fn run_passes_output_and_status_through_and_leaves_nothing() {
    let bundle = Bundle::script(
        "echo $WORD; hostname; id -u; pwd; ulimit -n; echo $$; grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status; exit 7",
    );
    let (output, status) = bundle.run();
    let caps = "0000000000000421";
    assert_eq!(
        output,
        format!("given\nbundle\n0\n/\n64\n1\nCapEff:\t{caps}\nCapBnd:\t{caps}\nNoNewPrivs:\t1\n")
    );
    assert_eq!(status, 7);
    assert!(!bundle.cgroup_left());
    assert!(!bundle.dir.path().join("state").join(bundle.id()).exists());
}

#[test]
fn a_container_goes_through_the_lifecycle() {
    let bundle = Bundle::script("trap 'echo bye; exit 0' TERM; echo up; while true; do sleep 0.02; done");
    bundle.create();
    assert_eq!(bundle.status(), "created");
    assert_eq!(bundle.output(), "");
    let pid: i32 = fs::read_to_string(bundle.dir.path().join("pid"))
        .unwrap()
        .parse()
        .unwrap();
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    bundle.ok(&["start", &bundle.id()]);
    bundle.until("it is up", || bundle.output().contains("up"));
    assert_eq!(bundle.status(), "running");
    assert!(!bundle.runtime(&["start", &bundle.id()]).status.success());
    assert!(!bundle.runtime(&["delete", &bundle.id()]).status.success());
    bundle.ok(&["kill", &bundle.id(), "TERM"]);
    bundle.until("it has stopped", || bundle.status() == "stopped");
    assert!(bundle.output().contains("bye"));
    assert!(!bundle.runtime(&["kill", &bundle.id(), "KILL"]).status.success());
    bundle.ok(&["delete", &bundle.id()]);
    assert!(!bundle.runtime(&["state", &bundle.id()]).status.success());
    assert!(!bundle.cgroup_left());
}

#[test]
fn an_id_is_taken_only_once_and_must_be_a_name() {
    let bundle = Bundle::script("true");
    bundle.create();
    let path = bundle.dir.path().to_str().unwrap();
    let again = bundle.runtime(&["create", "--bundle", path, &bundle.id()]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("exists already"));
    let bad = bundle.runtime(&["create", "--bundle", path, "../up"]);
    assert!(String::from_utf8_lossy(&bad.stderr).contains("is not a container id"));
    assert_eq!(bundle.status(), "created");
    bundle.ok(&["delete", &bundle.id()]);
    assert!(!bundle.cgroup_left());
}

#[test]
fn a_missing_program_fails_the_start_by_name() {
    let bundle = Bundle::new(&["/no/such"]);
    let (output, status) = bundle.run();
    assert!(
        output.contains("/no/such") && output.contains("No such file"),
        "{output}"
    );
    assert_ne!(status, 0);
    assert!(!bundle.cgroup_left());
}

#[test]
fn paths_are_masked_read_only_and_the_root_can_be() {
    let mut bundle = Bundle::script(
        "echo x > /proc/sys/kernel/hostname; cat /proc/keys | wc -c; touch /file; touch /dev/shm/fine && echo fine; mkdir /sys/fs/cgroup/x; head -c 3 /dev/zero | wc -c",
    );
    bundle.config["root"]["readonly"] = json!(true);
    let (output, _) = bundle.run();
    assert_eq!(output.matches("Read-only file system").count(), 3, "{output}");
    assert!(
        output.contains("fine") && output.contains("0\n") && output.contains("3\n"),
        "{output}"
    );
}

#[test]
fn a_user_namespace_maps_ids() {
    use std::os::unix::fs::chown;
    let mut bundle = Bundle::script("id -u; cat /proc/self/uid_map; touch /tmp/made && stat -c %u /tmp/made");
    let root = bundle.dir.path().join("rootfs");
    for dir in [
        root.clone(),
        root.join("tmp"),
        root.join("dev"),
        root.join("proc"),
        root.join("sys"),
    ] {
        chown(dir, Some(300_000), Some(300_000)).unwrap();
    }
    fs::set_permissions(
        bundle.dir.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let map = json!([{"containerID": 0, "hostID": 300_000, "size": 1000}]);
    bundle.config["linux"]["uidMappings"] = map.clone();
    bundle.config["linux"]["gidMappings"] = map;
    bundle.config["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .push(json!({"type": "user"}));
    let (output, status) = bundle.run();
    assert_eq!(output, "0\n         0     300000       1000\n0\n");
    assert_eq!(status, 0);
}

#[test]
fn an_allow_list_filter_is_applied() {
    let mut bundle = Bundle::script("mkdir /tmp/a; chmod 700 /tmp; echo still here");
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28},
            {"names": ["chmod", "fchmodat", "no_such_call"], "action": "SCMP_ACT_ERRNO",
             "args": [{"index": 1, "value": 448, "op": "SCMP_CMP_EQ"}]}
        ]
    });
    let (output, _) = bundle.run();
    assert!(output.contains("'/tmp/a': No space left"), "{output}");
    assert!(output.contains("/tmp: Operation not permitted"), "{output}");
    assert!(output.contains("still here"), "{output}");
}

#[test]
fn limits_and_namespaces_of_others_are_honoured() {
    let mut bundle =
        Bundle::script("readlink /proc/self/ns/net; for i in 1 2 3 4 5 6 7 8 9; do sleep 9 & done");
    bundle.config["linux"]["resources"]["pids"] = json!({"limit": 6});
    bundle.config["linux"]["namespaces"][1]["path"] = json!("/proc/self/ns/net");
    let (output, _) = bundle.run();
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    assert!(output.starts_with(own.to_str().unwrap()), "{output}");
    assert!(output.contains("can't fork"), "{output}");
}

#[test]
fn hooks_get_the_state_and_a_failing_one_undoes_the_creation() {
    let mut bundle = Bundle::script("true");
    let log = bundle.dir.path().join("hook.log");
    let script = format!("cat >> {0}; echo >> {0}", log.display());
    let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
    bundle.config["hooks"] = json!({"createRuntime": hook, "poststart": hook, "poststop": hook});
    bundle.run();
    let states: Vec<Value> = fs::read_to_string(&log)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let statuses: Vec<&str> = states
        .iter()
        .map(|state| state["status"].as_str().unwrap())
        .collect();
    assert_eq!(statuses, ["creating", "running", "stopped"]);
    bundle.config["hooks"]["createRuntime"] = json!([{"path": "/bin/false"}]);
    let (output, status) = bundle.run();
    assert_ne!(status, 0);
    assert!(output.contains("/bin/false"), "{output}");
    assert!(!bundle.cgroup_left());
}

#[test]
fn a_terminal_goes_to_the_console_socket() {
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
    use std::io::{Read, Write};
    use std::os::fd::{AsRawFd, FromRawFd};
    let mut bundle = Bundle::script("tty; stty size; read x; echo got $x");
    bundle.config["process"]["terminal"] = json!(true);
    bundle.config["process"]["consoleSize"] = json!({"width": 70, "height": 20});
    bundle.write();
    let path = bundle.dir.path().join("console");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let dir = bundle.dir.path().to_str().unwrap();
    bundle.ok(&[
        "create",
        "--bundle",
        dir,
        "--console-socket",
        path.to_str().unwrap(),
        &bundle.id(),
    ]);
    let (stream, _) = listener.accept().unwrap();
    let mut space = nix::cmsg_space!([i32; 1]);
    let mut buffer = [0; 64];
    let mut slices = [std::io::IoSliceMut::new(&mut buffer)];
    let message = recvmsg::<()>(
        stream.as_raw_fd(),
        &mut slices,
        Some(&mut space),
        MsgFlags::empty(),
    )
    .unwrap();
    let fd = message
        .cmsgs()
        .unwrap()
        .find_map(|m| {
            if let ControlMessageOwned::ScmRights(fds) = m {
                fds.first().copied()
            } else {
                None
            }
        })
        .unwrap();
    // SAFETY: just received.
    let mut master = unsafe { fs::File::from_raw_fd(fd) };
    bundle.ok(&["start", &bundle.id()]);
    master.write_all(b"typed\n").unwrap();
    let mut seen = String::new();
    let mut chunk = [0; 256];
    // The terminal ends with an error when its last user has gone.
    while let Ok(n) = master.read(&mut chunk) {
        seen.push_str(&String::from_utf8_lossy(&chunk[..n]));
    }
    assert!(seen.contains("20 70") && seen.contains("got typed"), "{seen}");
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    for (pointer, value, word) in [
        ("/process/apparmorProfile", json!("x"), "apparmorProfile"),
        ("/process/cwd", json!("relative"), "relative"),
        ("/process/args", json!([]), "process.args"),
        ("/linux/cgroupsPath", json!("../../up"), "cgroupsPath"),
        ("/linux/sysctl", json!({"../x": "1"}), "../x"),
    ] {
        let mut bundle = Bundle::script("true");
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        bundle.config.pointer_mut(parent).unwrap()[key] = value;
        let (output, status) = bundle.run();
        assert_ne!(status, 0);
        assert!(output.contains(word), "{pointer}: {output}");
    }
}
