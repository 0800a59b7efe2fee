//! A whole Debian with systemd, as a container and as a microVM.

#![allow(clippy::expect_used, reason = "a step that fails fails the test")]

use end_to_end::{Client, Host, virtual_machines_run_here};

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

/// A figure of a control group as seen inside: `cgroup.procs` and its neighbours of version 2, or of version 1's `controller`.
fn figure(virga: &Client, controller: &str, file: &str, key: &str) -> u64 {
    let script = format!(
        "cd /sys/fs/cgroup; [ -e cgroup.controllers ] || cd {controller}; sed -n 's/^{key} //p' {file}"
    );
    let text = virga.ok(&shell(&script));
    text.trim()
        .parse()
        .unwrap_or_else(|err| panic!("{key} of {file} is no number ({err}): {text}"))
}

#[test]
fn limits_of_a_debian_container_bite() {
    let host = launch_debian(&[
        "-c",
        "limits.memory=256MiB",
        "-c",
        "limits.processes=120",
        "-c",
        "limits.cpu.allowance=20ms/100ms",
    ]);
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
    let crowd = virga.call(&shell(
        "for n in $(seq 200); do sleep 20 & done; jobs -p | wc -l; kill $(jobs -p)",
    ));
    assert!(
        crowd.stderr.contains("annot fork"),
        "{}: {}{}",
        crowd.status,
        crowd.stdout,
        crowd.stderr
    );
    virga.ok(&shell("true"));

    // Processor time: a busy loop is held back, and the kernel counts how often.
    let before = figure(&virga, "cpu", "cpu.stat", "nr_throttled");
    virga.ok(&shell("timeout 5 sh -c 'while :; do :; done' || [ $? = 124 ]"));
    let after = figure(&virga, "cpu", "cpu.stat", "nr_throttled");
    assert!(
        after > before,
        "throttled {before} times before and {after} after"
    );

    stop_and_delete(&host);
}
