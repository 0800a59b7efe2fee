//! `virga doctor` tells hosts apart and says what each lack costs. Lacks are made
//! in a mount namespace of the call's own, so that any host shows all of them.

#![allow(clippy::expect_used, reason = "a step that fails fails the test")]

use std::path::Path;
use std::process::Command;

use end_to_end::{doctor, skipped, virga};
use serde_json::Value;

/// What doctor says after `setup` has changed what it sees; and its exit status.
fn doctor_after(setup: &str) -> (Vec<Value>, i32) {
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-ec"])
        .arg(format!("{setup}\nexec \"$0\" doctor --format json"))
        .arg(virga())
        .output()
        .expect("unshare needs root");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    let checks = serde_json::from_str(&text)
        .unwrap_or_else(|err| panic!("no JSON ({err}) after '{setup}': {text}{errors}"));
    (checks, output.status.code().expect("an exit status"))
}

/// The check of that name: its verdict, what was found, and what the lack costs.
fn check<'a>(checks: &'a [Value], name: &str) -> (&'a str, &'a str, &'a str) {
    let check = checks
        .iter()
        .find(|check| check["name"] == name)
        .unwrap_or_else(|| panic!("no check is called {name}: {checks:?}"));
    let word = |key: &str| check[key].as_str().expect("a word");
    (word("verdict"), word("found"), word("cost"))
}

/// Expects of a check its verdict, and words of what was found and of the cost.
fn expect(checks: &[Value], name: &str, wanted: (&str, &str, &str)) {
    let (verdict, found, cost) = check(checks, name);
    assert_eq!(verdict, wanted.0, "{name}: {found}; {cost}");
    assert!(
        found.contains(wanted.1),
        "{name}: '{}' is not in: {found}",
        wanted.1
    );
    assert!(
        cost.contains(wanted.2),
        "{name}: '{}' is not in: {cost}",
        wanted.2
    );
}

#[test]
fn each_lack_has_a_cost_and_nothing_else_has() {
    for check in doctor() {
        let lacks = check["verdict"] != "good";
        assert_eq!(lacks, check["cost"] != "", "{check}");
        assert_ne!(check["found"], "", "{check}");
    }
}

#[test]
fn what_the_kernel_shows_here_is_what_doctor_says() {
    let checks = doctor();
    let verdict = |name| check(&checks, name).0;
    let there = |path: &str| Path::new(path).exists();
    if !there("/dev/kvm") {
        expect(
            &checks,
            "virtual machines",
            ("missing", "no KVM", "only containers"),
        );
    }
    assert_eq!(verdict("vhost-net") == "good", there("/dev/vhost-net"));
    assert_eq!(verdict("taps") == "good", there("/dev/net/tun"));
    let groups = std::fs::read_dir("/sys/kernel/iommu_groups").map_or(0, Iterator::count);
    assert_eq!(verdict("IOMMU") == "good", groups > 0);
    assert_eq!(
        check(&checks, "cgroup").1.starts_with("version 2"),
        there("/sys/fs/cgroup/cgroup.controllers")
    );
    let modules = std::fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    assert_eq!(verdict("confinement") == "good", modules.contains("apparmor"));
}

#[test]
fn the_test_host_is_told_from_lesser_hosts() {
    let Some(machine) = std::env::var_os("VIRGA_TEST_HOST") else {
        return skipped(
            "the_test_host_is_told_from_lesser_hosts",
            "this is not the test host",
        );
    };
    let checks = doctor();
    expect(&checks, "virtual machines", ("good", "hardware KVM", ""));
    expect(&checks, "containers", ("good", "", ""));
    expect(&checks, "cgroup", ("good", "version 2", ""));
    expect(&checks, "vhost-net", ("good", "/dev/vhost-net", ""));
    expect(&checks, "confinement", ("good", "AppArmor", ""));
    expect(&checks, "network", ("good", "nft, dnsmasq", ""));
    if machine == "full" {
        expect(&checks, "IOMMU", ("good", "groups", ""));
    } else {
        expect(&checks, "IOMMU", ("lacking", "no groups", "passed through"));
    }
}

#[test]
fn software_kvm_is_told_from_hardware() {
    let checks = doctor();
    let (verdict, found, cost) = check(&checks, "virtual machines");
    if !found.starts_with("software KVM") {
        return skipped(
            "software_kvm_is_told_from_hardware",
            &format!("this host has no software KVM: {found}"),
        );
    }
    assert_eq!(verdict, "missing");
    assert!(found.contains("INT3"), "{found}");
    assert!(cost.contains("ordinary guests cannot run on it"), "{cost}");
}

#[test]
fn a_host_without_device_nodes_runs_containers_only() {
    let (checks, status) = doctor_after(
        "mount -t tmpfs dev /dev; mknod -m 666 /dev/null c 1 3; mknod -m 666 /dev/urandom c 1 9",
    );
    expect(
        &checks,
        "virtual machines",
        (
            "missing",
            "no KVM: cannot open /dev/kvm",
            "only containers run here",
        ),
    );
    expect(&checks, "taps", ("missing", "no /dev/net/tun", "no network card"));
    expect(&checks, "vhost-net", ("lacking", "no /dev/vhost-net", "more CPU"));
    assert_eq!(status, 0, "containers still run");
}

#[test]
fn kinds_of_control_groups_are_told_apart() {
    let empty = "mount -t tmpfs cgroup /sys/fs/cgroup";
    let (checks, _) = doctor_after(empty);
    expect(&checks, "cgroup", ("missing", "none mounted", "no limit is kept"));
    let (checks, _) = doctor_after(&format!("{empty}; mkdir /sys/fs/cgroup/memory"));
    expect(
        &checks,
        "cgroup",
        ("lacking", "version 1", "delegation to systemd"),
    );
    let (checks, _) = doctor_after(&format!(
        "{empty}; echo cpuset cpu memory >/sys/fs/cgroup/cgroup.controllers"
    ));
    expect(
        &checks,
        "cgroup",
        ("lacking", "version 2 without io, pids", "limits"),
    );
    let (checks, _) = doctor_after(&format!(
        "{empty}; echo cpuset cpu io memory pids >/sys/fs/cgroup/cgroup.controllers"
    ));
    expect(&checks, "cgroup", ("good", "version 2", ""));
}

#[test]
fn iommu_and_confinement_are_seen_where_the_kernel_has_them() {
    let groups = "mount -t tmpfs groups /sys/kernel/iommu_groups";
    let (checks, _) = doctor_after(groups);
    expect(
        &checks,
        "IOMMU",
        ("lacking", "no groups", "no device can be passed through"),
    );
    let (checks, _) = doctor_after(&format!(
        "{groups}; mkdir /sys/kernel/iommu_groups/0 /sys/kernel/iommu_groups/1"
    ));
    expect(&checks, "IOMMU", ("good", "2 groups", ""));
    let security = "mount -t tmpfs security /sys/kernel/security; echo";
    let (checks, _) = doctor_after(&format!(
        "{security} capability,landlock >/sys/kernel/security/lsm"
    ));
    expect(
        &checks,
        "confinement",
        (
            "lacking",
            "no AppArmor",
            "namespaces, capabilities and seccomp only",
        ),
    );
    let (checks, _) = doctor_after(&format!(
        "{security} capability,apparmor >/sys/kernel/security/lsm"
    ));
    expect(&checks, "confinement", ("good", "AppArmor", ""));
}

#[test]
fn missing_tools_are_named() {
    let (checks, status) = doctor_after("for dir in /usr/sbin /sbin; do mount -t tmpfs tools $dir; done");
    let (verdict, found, cost) = check(&checks, "network");
    assert_eq!((verdict, found), ("missing", "no nft, dnsmasq"));
    assert!(cost.contains("install nftables and dnsmasq-base"), "{cost}");
    let (verdict, found, cost) = check(&checks, "disk images");
    assert_eq!((verdict, found), ("missing", "no mkfs.ext4, resize2fs"));
    assert!(cost.contains("install e2fsprogs"), "{cost}");
    assert_eq!(status, 0, "containers still run");
}
