//! What a running VM's process has given up.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use common::payload::Payload;
use common::vm::{Spec, has_kvm};
use serde_json::json;

fn status_of(task: &str) -> Vec<(String, String)> {
    fs::read_to_string(format!("{task}/status"))
        .unwrap()
        .lines()
        .filter_map(|line| line.split_once(":\t"))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

fn field(status: &[(String, String)], name: &str) -> String {
    status
        .iter()
        .find(|(field, _)| field == name)
        .map(|(_, value)| value.clone())
        .unwrap()
}

#[test]
fn every_thread_is_filtered_and_has_no_privileges() {
    if !has_kvm() || !nix::unistd::geteuid().is_root() {
        return;
    }
    let mut spec = Spec::new(&Payload::new().print("up").forever());
    let disk = spec.file("disk", &[0; 4096]);
    spec = spec
        .set("vcpus", 2.into())
        .set("rng", true.into())
        .set("disks", json!([{"id": "root", "path": disk}]))
        .set("sandbox", json!({"uid": 54321, "gid": 54322}));
    let mut vm = spec.start();
    let client = vm.client();
    vm.wait_for("up");
    let pid = vm.process.id();
    let mut names = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let status = status_of(task.unwrap().path().to_str().unwrap());
        let name = field(&status, "Name");
        assert_eq!(field(&status, "Seccomp"), "2", "{name}");
        assert_eq!(field(&status, "NoNewPrivs"), "1", "{name}");
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(field(&status, set), "0000000000000000", "{set} of {name}");
        }
        assert_eq!(field(&status, "Uid"), "54321\t54321\t54321\t54321", "{name}");
        assert_eq!(field(&status, "Gid"), "54322\t54322\t54322\t54322", "{name}");
        assert_eq!(field(&status, "Groups"), "", "{name}");
        names.push(name);
    }
    for expected in ["vcpu0", "vcpu1", "devices"] {
        assert!(names.iter().any(|name| name == expected), "{names:?}");
    }
    // Not dumpable: its files in /proc belong to root.
    assert_eq!(fs::metadata(format!("/proc/{pid}/maps")).unwrap().uid(), 0);
    assert_eq!(fs::metadata(vm.run_dir().join("pid.json")).unwrap().uid(), 54321);
    client.stop().unwrap();
    let ended = vm.end();
    assert!(
        ended.report.is_some(),
        "the report is written without privileges: {}",
        ended.stderr
    );
}

/// What this process and another one are in, as the kernel names it.
fn namespaces(pid: u32, kind: &str) -> [std::path::PathBuf; 2] {
    let at = |process: &str| fs::read_link(format!("/proc/{process}/ns/{kind}")).unwrap();
    [at("self"), at(&pid.to_string())]
}

#[test]
fn a_vm_has_no_file_process_socket_or_network_of_the_host_in_reach() {
    if !has_kvm() || !nix::unistd::geteuid().is_root() {
        return;
    }
    let mut spec = Spec::new(&Payload::new().print("up").forever());
    let disk = spec.file("disk", &[0; 4096]);
    let limits = json!({"nofile": 200, "fsize": 1 << 30});
    spec = spec
        .set("rng", true.into())
        .set("console", true.into())
        .set("vsock", json!({"cid": 3, "socket": "vsock.sock"}))
        .set("disks", json!([{"id": "root", "path": disk}]))
        .set(
            "sandbox",
            json!({"uid": 54323, "strict": true, "rlimits": limits}),
        );
    let mut vm = spec.start_alone();
    let client = vm.client();
    vm.wait_for("up");
    let pid = vm.process.id();

    for kind in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let [here, there] = namespaces(pid, kind);
        assert_ne!(here, there, "{kind}");
    }
    let status = status_of(&format!("/proc/{pid}"));
    assert_eq!(
        field(&status, "NSpid").split_whitespace().last(),
        Some("1"),
        "it is alone among its processes"
    );
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let mounts: Vec<_> = mounts.lines().collect();
    assert_eq!(mounts.len(), 1, "{mounts:?}");
    assert!(mounts[0].contains(" / / ro,nosuid,nodev,noexec"), "{mounts:?}");
    let root = fs::read_dir(format!("/proc/{pid}/root/")).unwrap();
    assert_eq!(root.count(), 0, "the root is empty");
    let links = fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap();
    assert_eq!(
        links.lines().count(),
        3,
        "two lines of heading and the loopback link: {links}"
    );
    assert!(!links.contains("eth") && links.contains("lo:"), "{links}");
    let map = fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap();
    let map: Vec<_> = map.split_whitespace().collect();
    assert_eq!(map, ["54323", "54323", "1"]);
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let limit = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..].split_whitespace().next().unwrap().to_owned()
    };
    assert_eq!(limit("Max core file size"), "0");
    assert_eq!(limit("Max open files"), "200");
    assert_eq!(limit("Max file size"), "1073741824");

    let own = ["disk", "console.log", "console.log.old", "smaps", "null"];
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let target = fs::read_link(entry.unwrap().path()).unwrap();
        let text = target.to_string_lossy();
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let anonymous = ["anon_inode:", "socket:", "pipe:"]
            .iter()
            .any(|kind| text.starts_with(kind));
        // A folder that is mounted nowhere is named by its place in that mount: by nothing.
        assert!(
            anonymous || text == "/" || own.contains(&&*name),
            "{text} is open"
        );
    }

    let state = client.state().unwrap();
    assert_eq!(state.pid, pid, "it is known by its number out here");
    assert!(state.sandbox.missing.is_empty(), "{:?}", state.sandbox);
    for what in [
        "namespaces",
        "capabilities",
        "landlock",
        "pid namespace",
        "seccomp",
    ] {
        assert!(
            state.sandbox.in_force.iter().any(|known| known == what),
            "{what}: {:?}",
            state.sandbox
        );
    }
    let metrics = client.metrics().unwrap();
    assert!(
        metrics.overhead_bytes > 0,
        "its memory is known without /proc: {metrics:?}"
    );
    let text = fs::read_to_string(vm.run_dir().join("pid.json")).unwrap();
    assert!(text.contains(&format!("\"pid\":{pid}")), "{text}");

    client.stop().unwrap();
    let run_dir = vm.run_dir();
    common::vm::eventually("the end", || vm.process.try_wait().unwrap());
    for socket in ["control.sock", "console.sock", "vsock.sock"] {
        assert!(!run_dir.join(socket).exists(), "{socket} is removed");
    }
    assert!(vm.end().report.is_some());
}

/// Runs `act` where anyone may use KVM, which is so for this call alone: in a mount namespace.
fn with_open_kvm<T: Send>(folder: &std::path::Path, act: impl FnOnce() -> T + Send) -> T {
    use nix::mount::{MsFlags, mount};
    use nix::sys::stat::{Mode, SFlag, mknod};
    let node = folder.join("kvm");
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let none = None::<&str>;
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            let device = fs::metadata("/dev/kvm").unwrap().rdev();
            mknod(&node, SFlag::S_IFCHR, Mode::empty(), device).unwrap();
            fs::set_permissions(&node, fs::Permissions::from_mode(0o666)).unwrap();
            mount(Some(&node), "/dev/kvm", none, MsFlags::MS_BIND, none).unwrap();
            act()
        });
        thread.join().unwrap()
    })
}

#[test]
fn a_user_without_privileges_gets_what_the_host_allows_and_is_told_the_rest() {
    use std::os::unix::process::CommandExt;
    if !has_kvm() || !nix::unistd::geteuid().is_root() {
        return;
    }
    let spec = Spec::new(&Payload::new().print("up").forever());
    fs::create_dir(spec.folder.path().join("run")).unwrap();
    for path in [spec.folder.path().to_owned(), spec.folder.path().join("run")] {
        std::os::unix::fs::chown(path, Some(54324), Some(54324)).unwrap();
    }
    // A program that this user may run, wherever the build keeps it.
    let program = spec.folder.path().join("virga-vmm");
    fs::copy(env!("CARGO_BIN_EXE_virga-vmm"), &program).unwrap();
    let mut command = std::process::Command::new(&program);
    command
        .arg("--config")
        .arg(spec.file("spec.json", spec.value.to_string().as_bytes()))
        .stderr(std::process::Stdio::piped())
        .uid(54324)
        .gid(54324);
    let mut vm = common::vm::Vm {
        process: with_open_kvm(spec.folder.path(), move || command.spawn().unwrap()),
        spec,
    };
    let client = vm.client();
    vm.wait_for("up");
    let sandbox = client.state().unwrap().sandbox;
    let pid = vm.process.id();
    let apart = {
        let [here, there] = namespaces(pid, "mnt");
        here != there
    };
    let missing = |what| sandbox.missing.iter().any(|known| known.starts_with(what));
    assert_eq!(
        (apart, true),
        (!missing("namespaces"), missing("pid namespace")),
        "what is said is true: {sandbox:?}"
    );
    if apart {
        let root = fs::read_dir(format!("/proc/{pid}/root/")).unwrap();
        assert_eq!(root.count(), 0, "the root is empty");
    }
    let status = status_of(&format!("/proc/{pid}"));
    for set in ["CapPrm", "CapEff", "CapInh", "CapAmb"] {
        assert_eq!(field(&status, set), "0000000000000000", "{set}");
    }
    client.stop().unwrap();
    assert!(vm.end().report.is_some());
}

#[test]
fn a_process_that_sees_the_hosts_others_says_so_and_is_not_strictly_confined() {
    if !has_kvm() || !nix::unistd::geteuid().is_root() {
        return;
    }
    let mut vm = Spec::new(&Payload::new().forever()).start();
    let sandbox = vm.client().state().unwrap().sandbox;
    assert!(
        sandbox.missing.len() == 1 && sandbox.missing[0].contains("unshare --pid --fork"),
        "{sandbox:?}"
    );
    let ended = Spec::new(&Payload::new().forever())
        .set("sandbox", json!({"strict": true}))
        .run_to_end();
    assert_eq!(ended.status, Some(1), "{}", ended.stderr);
    assert!(
        ended
            .stderr
            .contains("strict is set, but there is no pid namespace"),
        "{}",
        ended.stderr
    );
    let mut vm = Spec::new(&Payload::new().forever())
        .set("sandbox", json!({"strict": true, "namespaces": false}))
        .start();
    let sandbox = vm.client().state().unwrap().sandbox;
    assert_eq!(sandbox.missing, [""; 0], "what is switched off is not missed");
}

#[test]
fn a_vm_joins_its_control_groups() {
    if !has_kvm() || !nix::unistd::geteuid().is_root() {
        return;
    }
    let hierarchies = ["/sys/fs/cgroup", "/sys/fs/cgroup/pids", "/sys/fs/cgroup/freezer"];
    let hierarchy = hierarchies
        .iter()
        .find(|path| fs::metadata(format!("{path}/cgroup.procs")).is_ok());
    let Some(hierarchy) = hierarchy else {
        eprintln!("skipped: no control groups");
        return;
    };
    let group = format!("{hierarchy}/virga-test-{}", std::process::id());
    if fs::create_dir(&group).is_err() {
        eprintln!("skipped: control groups cannot be made");
        return;
    }
    let spec = Spec::new(&Payload::new().print("up").forever())
        .set("sandbox", json!({"uid": 54325, "cgroups": [group.clone()]}));
    let mut vm = spec.start();
    let client = vm.client();
    vm.wait_for("up");
    let inside = fs::read_to_string(format!("{group}/cgroup.procs")).unwrap();
    let pid = vm.process.id().to_string();
    client.stop().unwrap();
    vm.end();
    common::vm::eventually("the group to be empty", || fs::remove_dir(&group).ok());
    assert!(inside.lines().any(|line| line == pid), "{inside}");
}

#[test]
fn filters_can_be_left_out_but_privileges_are_dropped_all_the_same() {
    if !has_kvm() {
        return;
    }
    let spec = Spec::new(&Payload::new().forever()).set("sandbox", json!({"seccomp": false}));
    let mut vm = spec.start();
    vm.client().state().unwrap();
    let status = status_of(&format!("/proc/{}", vm.process.id()));
    assert_eq!(
        (field(&status, "Seccomp"), field(&status, "NoNewPrivs")),
        ("0".into(), "1".into())
    );
    assert_eq!(field(&status, "CapEff"), "0000000000000000");
}

#[test]
fn nothing_that_was_inherited_stays_open() {
    if !has_kvm() {
        return;
    }
    let spec = Spec::new(&Payload::new().forever());
    let secret = fs::File::open(spec.file("secret", b"secret")).unwrap();
    nix::fcntl::fcntl(
        &secret,
        nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()),
    )
    .unwrap();
    let mut vm = spec.start();
    vm.client().state().unwrap();
    let open: Vec<_> = fs::read_dir(format!("/proc/{}/fd", vm.process.id()))
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
        .collect();
    assert!(!open.iter().any(|path| path.ends_with("secret")), "{open:?}");
    assert!(
        !open.iter().any(|path| path.ends_with("kernel")),
        "the kernel file is closed once it is mapped"
    );
}
