//! Debian's gdb on a Linux guest: from its first instruction, and while it runs.

#![allow(clippy::expect_used, reason = "a step that fails fails the test")]

use std::process::{Child, Command, Stdio};

use end_to_end::{Guest, dist, skipped, virtual_machines_run_here};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

/// gdb at work on a guest.
struct Gdb(Child);

impl Gdb {
    /// Attaches, and does this.
    fn start(guest: &Guest, commands: &[&str]) -> Self {
        let target = format!("target remote {}", guest.run_dir().join("gdb.sock").display());
        let before = ["set pagination off", "set remotetimeout 60", &target];
        let mut gdb = Command::new("gdb");
        gdb.args(["-nx", "-batch"])
            .arg(dist().join("share/virga/vmlinux"));
        for command in before.iter().chain(commands) {
            gdb.args(["-ex", command]);
        }
        gdb.stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self(gdb.spawn().expect("start gdb"))
    }

    /// Types Ctrl-C.
    fn interrupt(&self) {
        let pid = Pid::from_raw(self.0.id().cast_signed());
        kill(pid, Signal::SIGINT).expect("interrupt gdb");
    }

    /// Waits for its end. Gives what it has said.
    fn end(self) -> String {
        let output = self.0.wait_with_output().expect("gdb's output");
        let [said, complained] =
            [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        format!("{said}{complained}")
    }
}

fn assert_has(said: &str, expected: &[&str]) {
    for expected in expected {
        assert!(said.contains(expected), "{expected:?} is not in:\n{said}");
    }
}

#[test]
fn gdb_follows_linux_from_its_first_instruction_and_leaves_it_running() {
    let name = "gdb_follows_linux_from_its_first_instruction_and_leaves_it_running";
    if !virtual_machines_run_here(name) {
        return;
    }
    if Command::new("gdb").arg("--version").output().is_err() {
        return skipped(name, "no gdb");
    }
    let script = "
        watchdog -T 20 -t 1 /dev/watchdog
        cpu=/sys/devices/system/cpu
        until read -t 1 line; do
            [ ! -d $cpu/cpu1 ] || echo 1 2>/dev/null >$cpu/cpu1/online
            echo cpus $(cat $cpu/online)
        done
        echo told $line
        poweroff -f";
    let mut guest = Guest::start(script, |config| {
        config["cpu"] = json!({"max": 2});
        config["watchdog"] = json!({});
        config["gdb"] = json!({"socket": "gdb.sock", "wait": true});
    });
    let client = guest.client();
    let gdb = Gdb::start(
        &guest,
        &[
            "hbreak *start_kernel",
            "continue",
            "info registers rip rsp cr3",
            "backtrace 2",
            "x/s &linux_banner",
            "stepi",
            "info symbol $rip",
            "print $rip - (unsigned long)&start_kernel",
            "stepi 5",
            "delete",
            "detach",
        ],
    );
    let said = gdb.end();
    assert_has(
        &said,
        &[
            "<start_kernel>",
            "#1 ",
            "x86_64_start_",
            "\"Linux version ",
            "start_kernel + ",
            "detached",
        ],
    );
    guest.wait_for("cpus 0");

    let gdb = Gdb::start(
        &guest,
        &[
            "continue",
            "info threads",
            // Longer than the guest's watchdog waits.
            "shell sleep 25",
            "hbreak *vfs_write",
            "continue",
            "backtrace 2",
            "x/2i $pc",
            "info symbol *(long *)$rsp",
            "info threads",
            "detach",
        ],
    );
    guest.until("the debugger", |_| {
        client
            .metrics()
            .ok()?
            .debugger
            .filter(|counts| counts["clients"] == 2)
    });
    let count = Some(json!({"count": 2}));
    client
        .call("PUT", "/vcpus", count.as_ref(), &[])
        .expect("a second vCPU");
    guest.wait_for("cpus 0-1");
    gdb.interrupt();
    let said = gdb.end();
    assert_has(
        &said,
        &[
            "SIGINT",
            "Thread 1.1",
            "Thread 1.2",
            "hit Breakpoint 1",
            "#1 ",
            "=> 0x",
            "ksys_write + ",
            "detached",
        ],
    );
    assert!(!said.contains("Cannot access"), "{said}");
    let seen = guest.console().len();
    guest.until("the guest to go on", |guest| {
        guest.console()[seen..].contains("cpus 0-1").then_some(())
    });
    let metrics = client.metrics().expect("the counters");
    assert_eq!(metrics.devices["watchdog"]["expirations"], 0);
    guest.type_line("stop");
    let (console, report) = guest.end();
    assert!(console.contains("told stop"), "{console}");
    assert_eq!(report["reason"], "poweroff", "{console}");
}
