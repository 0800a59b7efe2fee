use super::*;

#[test]
fn signals_mean_what_busybox_and_systemd_mean_by_them() {
    assert_eq!(meaning(libc::SIGCHLD), None);
    assert_eq!(meaning(libc::SIGUSR2), Some(ShutdownAction::Poweroff));
    assert_eq!(meaning(libc::SIGTERM), Some(ShutdownAction::Reboot));
    assert_eq!(meaning(libc::SIGRTMIN() + 4), Some(ShutdownAction::Poweroff));
    assert_eq!(meaning(-1), None, "an interrupted wait asks for nothing");
}

#[test]
fn every_action_the_server_asks_for_is_understood() {
    assert!(
        Signals::numbers()
            .iter()
            .filter(|&&signal| meaning(signal).is_some())
            .count()
            == 8
    );
}
