//! A Debian system with systemd. Needs its root file system: `VIRGA_TEST_DEBIAN_ROOTFS=DIR` (made with `debootstrap
//! --variant=minbase --include=systemd,systemd-sysv,dbus`). The tests work on copies.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::TestContainer;
use container_runtime::spec::CgroupLayout;
use container_runtime::state::ExitReason;

/// A throw-away copy of the image in a scratch directory.
fn copy(image: &Path, dir: &Path) -> PathBuf {
    let root = dir.join("rootfs");
    let status = Command::new("cp")
        .args(["-a", "--reflink=auto"])
        .arg(image)
        .arg(&root)
        .status()
        .unwrap();
    assert!(status.success());
    root
}

fn image() -> Option<PathBuf> {
    let image = std::env::var_os("VIRGA_TEST_DEBIAN_ROOTFS").map(PathBuf::from);
    if image.is_none() {
        eprintln!("skipped: VIRGA_TEST_DEBIAN_ROOTFS does not name a Debian root file system");
    }
    image
}

async fn boots_and_halts(layout: CgroupLayout) {
    let Some(lower) = image() else { return };
    let dir = tempfile::tempdir().unwrap();
    let root = copy(&lower, dir.path());
    fs::write(root.join("etc/hostname"), "deb12\n").unwrap();
    let mut container = TestContainer::with_root(dir, root, &["/sbin/init"]);
    container.spec.hostname = "deb12".to_owned();
    container.spec.cgroup_layout = layout;
    container.start();
    container.until_console("deb12 login:");
    let (out, err, _) = container
        .exec(&["systemctl", "is-system-running", "--wait"])
        .await;
    let (failed, _, _) = container
        .exec(&["systemctl", "--failed", "--no-legend", "--plain"])
        .await;
    assert_eq!(out.trim(), "running", "{err}\nfailed units: {failed}");
    let (out, _, _) = container.exec(&["hostname"]).await;
    assert_eq!(out.trim(), "deb12");
    let stop = container.client().state().unwrap().stop_signal;
    container.client().kill(stop).unwrap();
    let exit = container.wait();
    assert_eq!(exit.reason, ExitReason::Poweroff, "{}", container.console());
}

#[tokio::test]
async fn systemd_reaches_running_and_halts_cleanly() {
    boots_and_halts(CgroupLayout::Auto).await;
}

#[tokio::test]
async fn systemd_runs_on_legacy_control_groups() {
    if !fs::read_to_string("/proc/self/mounts")
        .unwrap()
        .contains("name=systemd")
    {
        eprintln!("skipped: this host has no legacy systemd hierarchy");
        return;
    }
    boots_and_halts(CgroupLayout::Legacy).await;
}

#[tokio::test]
async fn a_reboot_from_inside_is_reported() {
    let Some(lower) = image() else { return };
    let dir = tempfile::tempdir().unwrap();
    let root = copy(&lower, dir.path());
    let mut container = TestContainer::with_root(dir, root, &["/sbin/init"]);
    container.start();
    container.until_console("login:");
    let (_, err, _) = container.exec(&["systemctl", "reboot"]).await;
    let exit = container.wait();
    assert_eq!(exit.reason, ExitReason::Reset, "{err}");
}
