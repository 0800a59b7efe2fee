//! What the process that serves a device has given up, seen from outside.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Place, read, write};
use seccompiler::{SeccompAction, SeccompFilter};
use serde_json::json;

/// The program apart from the tests' own terminal.
fn quiet(mut command: Command) -> Command {
    let command_with = command.stdin(Stdio::null()).stdout(Stdio::null());
    command_with.stderr(Stdio::piped());
    command
}

fn reads_and_writes(place: &Place) {
    let mut harness = place.disk();
    write(&mut harness, 0, 5, 77);
    assert_eq!(read(&mut harness, 1, 5), 77);
    let mut byte = [0];
    let disk = File::open(place.folder.path().join("disk")).unwrap();
    disk.read_exact_at(&mut byte, 5 * 512).unwrap();
    assert_eq!(byte, [77]);
}

fn assert_threads_have_no_privileges(pid: u32, user: Option<u32>) {
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let has = |line: &str| status.lines().any(|other| other == line);
        assert!(has("Seccomp:\t2") && has("NoNewPrivs:\t1"), "{status}");
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert!(has(&format!("{set}:\t0000000000000000")), "{status}");
        }
        if let Some(user) = user {
            assert!(has("CapBnd:\t0000000000000000"), "{status}");
            for ids in ["Uid", "Gid"] {
                assert!(
                    has(&format!("{ids}:\t{user}\t{user}\t{user}\t{user}")),
                    "{status}"
                );
            }
        }
    }
}

#[test]
fn a_back_end_has_no_file_process_socket_or_network_of_the_host_in_reach() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: what others may do here is the host's choice");
        return;
    }
    let mut place = Place::new();
    let sandbox = json!({"uid": 54321, "strict": true, "rlimits": {"nofile": 200, "fsize": 1 << 30}});
    let command = quiet(place.disk_command(&["--sandbox", &sandbox.to_string()]));
    place.program = Some(vmm::spawn::in_pid_namespace(command).unwrap());
    let pid = place.program.as_ref().unwrap().id();
    // Served while everything is looked at.
    let mut harness = place.disk();
    write(&mut harness, 0, 1, 1);
    // The second queue's thread may still be on its way.
    let began = Instant::now();
    while fs::read_dir(format!("/proc/{pid}/task")).unwrap().count() < 3 {
        assert!(began.elapsed() < common::PATIENCE, "a thread for each queue");
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_threads_have_no_privileges(pid, Some(54321));

    for kind in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/{kind}")).unwrap();
        assert_ne!(of("self"), of(&pid.to_string()), "{kind}");
    }
    let file = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
    let mounts = file("mountinfo");
    assert_eq!(mounts.lines().count(), 1, "{mounts}");
    assert!(mounts.contains(" / / ro,nosuid,nodev,noexec"), "{mounts}");
    assert_eq!(fs::read_dir(format!("/proc/{pid}/root/")).unwrap().count(), 0);
    assert_eq!(
        fs::read_link(format!("/proc/{pid}/cwd")).unwrap().as_os_str(),
        "/"
    );
    let links = file("net/dev");
    assert_eq!(
        links.lines().count(),
        3,
        "two lines of heading and a link: {links}"
    );
    assert_eq!(
        file("uid_map").split_whitespace().collect::<Vec<_>>(),
        ["54321", "54321", "1"]
    );
    let limits = file("limits");
    for (limit, most) in [
        ("Max core file size", "0"),
        ("Max open files", "200"),
        ("Max file size", "1073741824"),
    ] {
        let line = limits.lines().find(|line| line.starts_with(limit)).unwrap();
        assert_eq!(
            line[limit.len()..].split_whitespace().next(),
            Some(most),
            "{line}"
        );
    }
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let target = fs::read_link(entry.unwrap().path()).unwrap();
        let text = target.to_string_lossy();
        let anonymous = ["anon_inode:", "socket:", "pipe:"]
            .iter()
            .any(|kind| text.starts_with(kind));
        // Guest memory is a file without a name.
        let own = ["/dev/null", "/memfd:"].iter().any(|kind| text.starts_with(kind));
        assert!(anonymous || own || target.ends_with("disk"), "{text} is open");
    }
    drop(harness);
    reads_and_writes(&place);
}

/// What it says first.
fn first_line(program: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(program.stderr.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    line
}

/// Starts a program on a host without Landlock: one call is not there.
fn spawn_without_landlock(mut command: Command) -> Child {
    let refused = BTreeMap::from([(libc::SYS_landlock_create_ruleset, Vec::new())]);
    let missing = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(refused, SeccompAction::Allow, missing, arch).unwrap();
    let filter: seccompiler::BpfProgram = filter.try_into().unwrap();
    // The filter is the thread's, and that of programs it starts.
    let thread = std::thread::spawn(move || {
        seccompiler::apply_filter(&filter).unwrap();
        command.spawn().unwrap()
    });
    thread.join().unwrap()
}

#[test]
fn what_a_host_lacks_is_said_and_with_strict_it_is_a_reason_not_to_start() {
    let mut place = Place::new();
    let strict = quiet(place.disk_command(&["--sandbox", r#"{"strict": true}"#]));
    let mut refused = spawn_without_landlock(strict);
    let line = first_line(&mut refused);
    assert!(
        line.starts_with("virga-vhost-user: sandbox.strict is set, but there is no"),
        "{line}"
    );
    assert_eq!(refused.wait().unwrap().code(), Some(1));

    let lenient = quiet(place.disk_command(&[]));
    let mut program = spawn_without_landlock(lenient);
    let mut lines = BufReader::new(program.stderr.take().unwrap()).lines();
    let pid = program.id();
    place.program = Some(program);
    let said = ["Landlock", "namespaces"].map(|part| format!("not confined by {part}"));
    let says = |line: String| said.iter().any(|words| line.contains(words));
    assert!(lines.any(|line| says(line.unwrap())), "what a host lacks is said");
    reads_and_writes(&place);
    assert_threads_have_no_privileges(pid, None);
}
