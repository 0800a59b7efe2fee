//! Recognising init systems by their images.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::symlink;

use super::*;

#[test]
fn init_systems_are_recognised() {
    let dir = tempfile::tempdir().unwrap();
    for path in ["sbin", "usr/lib/systemd", "bin"] {
        fs::create_dir_all(dir.path().join(path)).unwrap();
    }
    fs::write(dir.path().join("usr/lib/systemd/systemd"), "").unwrap();
    fs::write(dir.path().join("bin/busybox"), "BusyBox v1.36").unwrap();
    fs::write(dir.path().join("sbin/openrc-init"), "").unwrap();
    let init = dir.path().join("sbin/init");
    let detect = |command: &[&str]| {
        InitSystem::detect(
            dir.path(),
            &command.iter().map(|&word| word.to_owned()).collect::<Vec<_>>(),
        )
    };
    assert_eq!(detect(&["/sbin/init"]), InitSystem::Program);
    symlink("/lib/systemd/systemd", &init).unwrap();
    symlink("usr/lib", dir.path().join("lib")).unwrap();
    assert_eq!(detect(&["/sbin/init"]), InitSystem::Systemd);
    for (link, found) in [
        ("../bin/busybox", InitSystem::Busybox),
        ("openrc-init", InitSystem::OpenRc),
    ] {
        fs::remove_file(&init).unwrap();
        symlink(link, &init).unwrap();
        assert_eq!(detect(&["/sbin/init"]), found);
    }
    fs::remove_file(&init).unwrap();
    fs::write(&init, "sysv").unwrap();
    assert_eq!(detect(&["/sbin/init"]), InitSystem::SysV);
    fs::write(&init, "...BusyBox v1.36...").unwrap();
    assert_eq!(detect(&["/sbin/init"]), InitSystem::Busybox);
    assert_eq!(detect(&["/bin/busybox", "sh"]), InitSystem::Program);
    assert_eq!(detect(&["/bin/busybox", "init"]), InitSystem::Busybox);
    assert_eq!(detect(&["/usr/lib/systemd/systemd"]), InitSystem::Systemd);
    assert_eq!(detect(&[]), InitSystem::Program);
}

#[test]
fn each_is_asked_to_stop_in_its_own_way() {
    assert_eq!(InitSystem::Systemd.stop_signal(), libc::SIGRTMIN() + 3);
    assert_eq!(InitSystem::Busybox.stop_signal(), libc::SIGUSR2);
    assert_eq!(InitSystem::SysV.stop_signal(), libc::SIGPWR);
    assert_eq!(InitSystem::Program.stop_signal(), libc::SIGTERM);
    assert_eq!(InitSystem::Program.reboot_signal(), None);
}
