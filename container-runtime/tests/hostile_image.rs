//! Images that try to lead mounts out of themselves.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::os::unix::fs::symlink;

use common::TestContainer;
use container_runtime::spec::Mount;
use container_runtime::state::ExitReason;

#[test]
fn a_link_in_place_of_a_kernel_directory_is_refused() {
    for place in ["proc", "sys", "dev"] {
        let mut container = TestContainer::script("echo ran");
        let trap = container.path().join("trap");
        fs::create_dir(&trap).unwrap();
        let spot = container.rootfs().join(place);
        fs::remove_dir(&spot).unwrap();
        symlink(&trap, &spot).unwrap();
        container.create();
        let exit = container.wait();
        assert_eq!(exit.reason, ExitReason::Error);
        assert!(
            exit.message.contains(&format!("/{place} is a symbolic link")),
            "{}",
            exit.message
        );
        assert_eq!(fs::read_dir(&trap).unwrap().count(), 0);
        assert_eq!(container.console(), "");
    }
}

#[test]
fn missing_kernel_directories_are_made() {
    let mut container = TestContainer::script(
        "ls /proc/1 >/dev/null && ls /dev/null && ls /sys/class >/dev/null && echo fine",
    );
    for place in ["proc", "sys", "dev"] {
        fs::remove_dir(container.rootfs().join(place)).unwrap();
    }
    let (console, _) = container.run();
    assert!(console.ends_with("fine\n"), "{console}");
}

#[test]
fn links_on_the_way_to_a_mount_are_resolved_inside() {
    let mut container = TestContainer::script("cat /etc/target/file /srv/file; ls /up");
    let data = container.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("file"), "shown\n").unwrap();
    // Absolute and upward links, seen from the host, leave the image.
    symlink("/etc/target", container.rootfs().join("link")).unwrap();
    symlink("../../../../../../srv", container.rootfs().join("up")).unwrap();
    for dir in ["etc/target", "srv"] {
        fs::create_dir_all(container.rootfs().join(dir)).unwrap();
    }
    container.spec.mounts = ["/link", "/up"]
        .into_iter()
        .map(|target| Mount {
            source: data.to_string_lossy().into_owned(),
            target: target.to_owned(),
            ..Mount::default()
        })
        .collect();
    let (console, exit) = container.run();
    assert_eq!(exit.status, Some(0), "{console}");
    assert!(console.starts_with("shown\nshown\n"), "{console}");
}

#[test]
fn a_magic_link_does_not_lead_out() {
    let mut container = TestContainer::script("echo ran");
    symlink("/proc/self/root/tmp", container.rootfs().join("magic")).unwrap();
    let data = container.path().join("data");
    fs::create_dir(&data).unwrap();
    container.spec.mounts = vec![Mount {
        source: data.to_string_lossy().into_owned(),
        target: "/magic/x".to_owned(),
        ..Mount::default()
    }];
    container.create();
    assert_eq!(container.wait().reason, ExitReason::Error);
}

#[test]
fn a_fifo_as_init_does_not_hang_the_monitor() {
    let mut container = TestContainer::new(&["/sbin/init"]);
    fs::remove_file(container.rootfs().join("sbin/init")).unwrap();
    nix::unistd::mkfifo(
        &container.rootfs().join("sbin/init"),
        nix::sys::stat::Mode::S_IRWXU,
    )
    .unwrap();
    container.create();
    let error = container.client().start().unwrap_err().chain();
    assert!(error.contains("/sbin/init"), "{error}");
    container.wait();
}
