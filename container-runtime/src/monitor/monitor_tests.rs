//! Reading the end of an init process.

use nix::unistd::Pid;

use super::*;

#[test]
fn every_end_has_its_reason() {
    let pid = Pid::from_raw(7);
    let cases = [
        (
            WaitStatus::Signaled(pid, Signal::SIGHUP, false),
            0,
            ExitReason::Reset,
            None,
        ),
        (
            WaitStatus::Signaled(pid, Signal::SIGINT, false),
            0,
            ExitReason::Poweroff,
            None,
        ),
        (
            WaitStatus::Signaled(pid, Signal::SIGSEGV, true),
            0,
            ExitReason::Killed,
            Some(139),
        ),
        (
            WaitStatus::Signaled(pid, Signal::SIGKILL, false),
            0,
            ExitReason::Killed,
            Some(137),
        ),
        (WaitStatus::Exited(pid, 3), 5, ExitReason::Exited, Some(3)),
    ];
    for (status, oom_kills, reason, code) in cases {
        let exit = explain(status, oom_kills);
        assert_eq!(
            (exit.reason, exit.status, exit.oom_kills),
            (reason, code, oom_kills),
            "{status:?}"
        );
    }
    assert!(
        explain(WaitStatus::Signaled(pid, Signal::SIGKILL, false), 1)
            .message
            .contains("memory")
    );
}
