//! A whole Debian with systemd, as a container and as a microVM.

#![allow(clippy::expect_used, reason = "a step that fails fails the test")]

use end_to_end::{Host, Kind, virtual_machines_run_here};

fn debian_runs_systemd(kind: Kind) {
    let mut host = Host::start();
    host.import_debian();
    let virga = host.virga();
    let mut launch = vec!["launch", "debian", "d1"];
    launch.extend(match kind {
        Kind::Container => &[][..],
        Kind::VirtualMachine => &["--vm", "--memory", "512MiB"][..],
    });
    virga.ok(&launch);
    host.wait_for("systemd to have started", |host| {
        let outcome = host
            .virga()
            .call(&["exec", "-n", "d1", "--", "systemctl", "is-system-running"]);
        matches!(outcome.stdout.trim(), "running" | "degraded")
    });
    assert_eq!(
        virga.ok(&["exec", "-n", "d1", "--", "cat", "/proc/1/comm"]),
        "systemd\n"
    );
    let failed = virga.ok(&[
        "exec",
        "-n",
        "d1",
        "--",
        "systemctl",
        "--failed",
        "--no-legend",
        "--plain",
    ]);
    assert_eq!(failed, "", "units failed");
    host.wait_for("an address by DHCP", |host| {
        host.virga()
            .call(&["list", "-f", "csv", "-c", "4", "d1"])
            .stdout
            .contains("eth0")
    });
    virga.ok(&["stop", "--timeout", "100", "d1"]);
    assert_eq!(host.state_of("d1")["status"], "Stopped");
    virga.ok(&["delete", "d1"]);
}

#[test]
fn a_debian_container_runs_systemd() {
    debian_runs_systemd(Kind::Container);
}

#[test]
fn a_debian_microvm_runs_systemd() {
    if virtual_machines_run_here("a_debian_microvm_runs_systemd") {
        debian_runs_systemd(Kind::VirtualMachine);
    }
}
