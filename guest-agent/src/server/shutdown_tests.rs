use super::*;

#[test]
fn first_processes_are_told_apart() {
    assert_eq!(
        identify("systemd", Path::new("/usr/lib/systemd/systemd")),
        Init::Systemd
    );
    assert_eq!(identify("init", Path::new("/bin/busybox")), Init::Busybox);
    assert_eq!(identify(AGENT_COMM, Path::new("/init")), Init::Busybox);
    assert_eq!(identify("init", Path::new("/sbin/init")), Init::Other);
}

#[test]
fn systemd_and_busybox_get_their_signals() {
    let nothing = |_: &str| false;
    let systemd = choose(Init::Systemd, ShutdownAction::Poweroff, nothing);
    assert_eq!(systemd, Some(Step::Signal(nix::libc::SIGRTMIN() + 4)));
    let busybox = choose(Init::Busybox, ShutdownAction::Reboot, nothing);
    assert_eq!(busybox, Some(Step::Signal(nix::libc::SIGTERM)));
}

#[test]
fn other_init_systems_are_asked_by_their_programs() {
    let step = choose(Init::Other, ShutdownAction::Poweroff, |path| {
        path == "/sbin/poweroff"
    });
    assert_eq!(step, Some(Step::Run(vec!["/sbin/poweroff"])));
    assert_eq!(choose(Init::Other, ShutdownAction::Halt, |_| false), None);
}
