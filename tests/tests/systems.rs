//! A whole Debian with systemd, as a container and as a microVM.

#![allow(clippy::expect_used, reason = "a step that fails fails the test")]

use std::path::Path;

use end_to_end::{Host, virtual_machines_run_here};

/// Launches Debian as `d1` and waits until systemd has started everything.
fn launch_debian(options: &[&str]) -> Host {
    let mut host = Host::start();
    host.import_debian();
    host.virga().ok(&[&["launch", "debian", "d1"], options].concat());
    host.wait_for("systemd to have started", |host| {
        let outcome = host
            .virga()
            .call(&["exec", "-n", "d1", "--", "systemctl", "is-system-running"]);
        matches!(outcome.stdout.trim(), "running" | "degraded")
    });
    host
}

/// A shell's command in `d1`.
fn shell(script: &str) -> [&str; 7] {
    ["exec", "-n", "d1", "--", "sh", "-c", script]
}

fn debian_runs_systemd(options: &[&str]) -> Host {
    let mut host = launch_debian(options);
    let virga = host.virga();
    assert_eq!(virga.ok(&shell("cat /proc/1/comm")), "systemd\n");
    let failed = virga.ok(&shell("systemctl --failed --no-legend --plain"));
    assert_eq!(failed, "", "units failed");
    host.wait_for("an address by DHCP", |host| {
        host.virga()
            .call(&["list", "-f", "csv", "-c", "4", "d1"])
            .stdout
            .contains("eth0")
    });
    host
}

fn stop_and_delete(host: &Host) {
    host.virga().ok(&["stop", "--timeout", "100", "d1"]);
    assert_eq!(host.state_of("d1")["status"], "Stopped");
    host.virga().ok(&["delete", "d1"]);
    assert_eq!(host.supervisors(), []);
}

#[test]
fn a_debian_container_runs_systemd() {
    stop_and_delete(&debian_runs_systemd(&[]));
}

fn debian_microvm_with_vcpus(count: &str) {
    let host = debian_runs_systemd(&["--vm", "--memory", "512MiB", "--cpus", count]);
    let virga = host.virga();
    assert_eq!(virga.ok(&shell("nproc")), format!("{count}\n"));
    // The network leads to the host, and what is written to the disk is there.
    virga.ok(&shell("ping -c 1 -W 20 $(ip route show default | cut -d' ' -f3)"));
    let sum = virga.ok(&shell(
        "head -c 4000000 /dev/urandom >/root/data; sync; echo 3 >/proc/sys/vm/drop_caches; md5sum /root/data",
    ));
    assert_eq!(virga.ok(&shell("md5sum /root/data")), sum);
    stop_and_delete(&host);
}

#[test]
fn a_debian_microvm_with_one_vcpu_runs_systemd() {
    if virtual_machines_run_here("a_debian_microvm_with_one_vcpu_runs_systemd") {
        debian_microvm_with_vcpus("1");
    }
}

#[test]
fn a_debian_microvm_with_two_vcpus_runs_systemd() {
    if virtual_machines_run_here("a_debian_microvm_with_two_vcpus_runs_systemd") {
        debian_microvm_with_vcpus("2");
    }
}

/// How often the kernel has held back `d1` for its processor time, by the count of whichever of its control groups has the limit.
fn throttled(host: &Host) -> u64 {
    let pid = &host.state_of("d1")["pid"];
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("the control groups");
    // Version 2 has one line, 0::PATH; version 1 one for each hierarchy, ID:CONTROLLERS:PATH.
    let (hierarchy, path) = groups
        .lines()
        .filter_map(|line| line.split_once(':')?.1.split_once(':'))
        .find(|(controllers, _)| controllers.is_empty() || controllers.split(',').any(|name| name == "cpu"))
        .expect("a group with the controller cpu");
    let group = Path::new("/sys/fs/cgroup")
        .join(hierarchy)
        .join(path.trim_start_matches('/'));
    group
        .ancestors()
        .filter_map(|group| std::fs::read_to_string(group.join("cpu.stat")).ok())
        .filter_map(|text| {
            let count = text.lines().find_map(|line| line.strip_prefix("nr_throttled "))?;
            count.parse().ok()
        })
        .max()
        .expect("a count in cpu.stat")
}

#[test]
fn limits_of_a_debian_container_bite() {
    let mut host = launch_debian(&["-c", "limits.memory=256MiB", "-c", "limits.processes=120"]);
    let virga = host.virga();

    // Memory: a program that keeps more than the limit is killed, and nothing else is.
    let greedy = virga.call(&shell(
        "head -c 400000000 /dev/zero | tail -c 400000000 >/dev/null",
    ));
    assert_eq!(greedy.status, 137, "{}{}", greedy.stdout, greedy.stderr);
    assert_eq!(virga.ok(&shell("cat /proc/1/comm")), "systemd\n");
    let usage = host.state_of("d1")["memory"]["usage"].as_u64().expect("bytes");
    assert!(usage <= 256 << 20, "{usage} bytes are in use");

    // Processes: there is no room for two hundred, and there is again when they are gone.
    let crowd = virga.call(&shell("for n in $(seq 200); do sleep 5 & done; wait"));
    assert_ne!(crowd.status, 0, "two hundred processes fitted in");
    assert!(
        crowd.stderr.contains("annot fork"),
        "{}{}",
        crowd.stdout,
        crowd.stderr
    );
    host.wait_for("room for processes", |host| {
        host.state_of("d1")["processes"]
            .as_u64()
            .is_some_and(|count| count < 60)
    });
    virga.ok(&shell("true"));

    // Processor time, limited while it runs: a busy loop is held back, and the kernel counts how often.
    virga.ok(&["config", "set", "d1", "limits.cpu.allowance=20ms/100ms"]);
    let before = throttled(&host);
    virga.ok(&shell("timeout 5 sh -c 'while :; do :; done' || [ $? = 124 ]"));
    let after = throttled(&host);
    assert!(
        after > before,
        "throttled {before} times before and {after} after"
    );

    stop_and_delete(&host);
}
