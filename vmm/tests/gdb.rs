//! gdb itself on a guest of a few instructions.
//!
//! On a KVM that emulates the guest's kernel (KVM-PVM) there are no watchpoints, and `int3` is no instruction: what needs these
//! is skipped there with the reason.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::payload::{LOAD_ADDRESS, Payload};
use common::vm::{Spec, Vm, eventually, has_kvm};
use serde_json::json;
use vmm::control::state::{DebuggerState, VmState};
use vmm::exit::ExitReason;
use vmm::probe::{KvmKind, probe};

/// Long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether there is a gdb to test with.
fn has_gdb() -> bool {
    let found = Command::new("gdb")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    let found = found.is_ok_and(|status| status.success());
    if !found {
        eprintln!("skipped: no gdb");
    }
    found
}

fn socket(vm: &Vm) -> PathBuf {
    vm.run_dir().join("gdb.sock")
}

fn spec(payload: &Payload, wait: bool) -> Spec {
    Spec::new(payload).set("gdb", json!({"socket": "gdb.sock", "wait": wait}))
}

/// Runs gdb with these commands once the VM is there. Returns what it printed.
fn gdb(vm: &mut Vm, commands: &[&str]) -> String {
    vm.client();
    let connect = format!("target remote {}", socket(vm).display());
    let mut gdb = Command::new("gdb");
    gdb.args([
        "-nx",
        "-batch",
        "-ex",
        "set pagination off",
        "-ex",
        "set tcp connect-timeout 5",
    ]);
    gdb.args(["-ex", "set architecture i386:x86-64", "-ex", &connect]);
    for command in commands {
        gdb.args(["-ex", command]);
    }
    let output = gdb.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    format!("{text}{}", String::from_utf8_lossy(&output.stderr))
}

fn assert_has(text: &str, expected: &[&str]) {
    for expected in expected {
        assert!(text.contains(expected), "{expected:?} is not in:\n{text}");
    }
}

#[test]
fn a_guest_waits_for_its_debugger_which_stops_it_steps_reads_and_writes() {
    if !has_kvm() || !has_gdb() {
        return;
    }
    // mov eax, 7; mov rbx, 0x200000; mov dword [rbx], 5; print what rcx says; power off
    let head = Payload::new()
        .raw(&[0xb8, 7, 0, 0, 0])
        .store32(0x20_0000, 5)
        .raw(&[0x90]);
    let stop = format!("hbreak *{:#x}", LOAD_ADDRESS + head.len() as u64 - 1);
    // mov eax, ecx; mov dx, 0x3f8; out dx, al
    let payload = head.raw(&[0x89, 0xc8, 0x66, 0xba, 0xf8, 3, 0xee]).power_off();
    let mut vm = spec(&payload, true).start();
    let client = vm.client();
    assert_eq!(client.state().unwrap().debugger, Some(DebuggerState::Waiting));
    assert!(client.metrics().unwrap().vcpus[0].exits.is_empty(), "it waits");
    let said = gdb(
        &mut vm,
        &[
            "info registers rip",
            "x/1xb $rip",
            "stepi",
            "print $rax",
            "print $rip",
            &stop,
            "continue",
            "x/1xw 0x200000",
            "set var *(int*)0x200000 = 0x1234",
            "print/x *(int*)0x200000",
            "set var $rcx = 0x21",
            "print $cs",
            "print $fs_base",
            "print/x $cr3",
            "print $mxcsr",
            "print $fctrl",
            "set var $xmm3.v4_int32[1] = 77",
            "print $xmm3.v4_int32[1]",
            "x/1xb 0xffffffff80000000",
            "info threads",
            "continue",
        ],
    );
    assert_has(
        &said,
        &[
            "0x100000",
            "0xb8",
            "$1 = 7",
            "$2 = (void (*)()) 0x100005",
            "0x200000:\t0x00000005",
            "$3 = 0x1234",
            "$7 = [ ",
            "$8 = 895",
            "$9 = 77",
            "Cannot access memory",
            "vCPU, running",
            "exited normally",
        ],
    );
    let ended = vm.end();
    assert_eq!(
        (ended.status, ended.console.as_str()),
        (Some(0), "!"),
        "{}\n{said}",
        ended.stderr
    );
}

#[test]
fn a_breakpoint_in_memory_stops_any_vcpu_and_is_gone_after_detaching() {
    if !has_kvm()
        || !has_gdb()
        || !tells_int3("a_breakpoint_in_memory_stops_any_vcpu_and_is_gone_after_detaching")
    {
        return;
    }
    let head = Payload::new().print("a");
    let stop = format!("break *{:#x}", LOAD_ADDRESS + head.len() as u64);
    let at = LOAD_ADDRESS + head.len() as u64;
    let payload = head.print("b").print_memory(at, 1).power_off();
    let mut vm = spec(&payload, true).set("vcpus", 2.into()).start();
    let read = format!("x/1xb {at:#x}");
    let said = gdb(
        &mut vm,
        &[&stop, "continue", "print/x $rip", &read, "info threads", "detach"],
    );
    assert_has(
        &said,
        &[
            "Breakpoint 1",
            &format!("{at:#x}"),
            ":\t0xb0",
            "Thread 1.2",
            "not started",
        ],
    );
    let ended = vm.end();
    assert_eq!(
        (ended.status, ended.console.as_str()),
        // A byte that is no text: the first of `mov al, 'b'`.
        (Some(0), "ab\u{fffd}"),
        "{}\n{said}",
        ended.stderr
    );
}

/// A client that speaks the protocol by hand.
struct Hand(UnixStream);

impl Hand {
    fn connect(vm: &mut Vm) -> Self {
        vm.client();
        let stream = UnixStream::connect(socket(vm)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    fn send(&mut self, text: &str) {
        let sum = text.bytes().fold(0u8, u8::wrapping_add);
        self.0.write_all(format!("${text}#{sum:02x}").as_bytes()).unwrap();
    }

    /// The next answer, which is acknowledged.
    fn answer(&mut self) -> String {
        let mut text = Vec::new();
        let mut byte = [0];
        while !text.ends_with(b"#") {
            self.0.read_exact(&mut byte).unwrap();
            text.push(byte[0]);
        }
        self.0.read_exact(&mut [0; 2]).unwrap();
        // The VM may have ended with what it said.
        let _ = self.0.write_all(b"+");
        let text = String::from_utf8(text).unwrap();
        text.trim_start_matches(['+', '$'])
            .trim_end_matches('#')
            .to_owned()
    }

    fn ask(&mut self, text: &str) -> String {
        self.send(text);
        self.answer()
    }

    /// Waits until the other end is closed.
    fn expect_end(mut self) {
        match self.0.read_to_end(&mut Vec::new()) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("it is not sent away"),
            _ => {}
        }
    }
}

/// Prints dots forever.
fn dots() -> Payload {
    Payload::new()
        .print("go")
        .raw(&[0xb0, b'.', 0x66, 0xba, 0xf8, 3, 0xee, 0xeb, 0xfd])
}

fn wait_for_dots(vm: &Vm) {
    let before = vm.log().len();
    eventually("more dots", || (vm.log().len() != before).then_some(()));
}

#[test]
fn a_debugger_interrupts_shares_with_pause_and_leaves_the_guest_running() {
    if !has_kvm() {
        return;
    }
    let mut vm = spec(&dots(), false).start();
    let client = vm.client();
    vm.wait_for("go.");
    let state = || client.state().unwrap().debugger.unwrap();
    assert_eq!(state(), DebuggerState::Listening);
    let mut hand = Hand::connect(&mut vm);
    assert_eq!(
        state(),
        DebuggerState::Listening,
        "a connection alone stops nothing"
    );
    assert!(hand.ask("?").starts_with("T05thread:01"));
    assert_eq!(state(), DebuggerState::Stopped);
    Hand::connect(&mut vm).expect_end();
    hand.send("vCont;c");
    eventually("the guest to go on", || {
        (state() == DebuggerState::Running).then_some(())
    });
    wait_for_dots(&vm);
    hand.0.write_all(&[3]).unwrap();
    assert!(hand.answer().starts_with("T02thread:01"));
    // A paused VM can be looked at; it goes on when both let it.
    client.pause().unwrap();
    assert_eq!(hand.ask("m100000,1"), "b0");
    hand.send("vCont;c");
    eventually("the debugger to let go", || {
        (state() == DebuggerState::Running).then_some(())
    });
    assert_eq!(client.state().unwrap().state, VmState::Paused);
    let exits = client.metrics().unwrap().vcpus;
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(client.metrics().unwrap().vcpus, exits, "it is paused");
    client.resume().unwrap();
    wait_for_dots(&vm);
    drop(hand);
    eventually("the debugger to go", || {
        (state() == DebuggerState::Listening).then_some(())
    });
    wait_for_dots(&vm);
    let metrics = client.metrics().unwrap().debugger.unwrap();
    assert_eq!((&metrics["clients"], &metrics["refused"]), (&json!(1), &json!(1)));
    client.stop().unwrap();
    assert_eq!(vm.end().report.unwrap().reason, ExitReason::Killed);
}

#[test]
fn what_is_no_debugger_is_sent_away_and_the_next_one_is_served() {
    if !has_kvm() {
        return;
    }
    let mut vm = spec(&dots(), false).start();
    let client = vm.client();
    vm.wait_for("go.");
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"$?#00",
        b"$?#zz",
        b"-",
        &[b'$'; 10_000],
    ] {
        let mut hand = Hand::connect(&mut vm);
        hand.0.write_all(bytes).unwrap();
        hand.expect_end();
        wait_for_dots(&vm);
    }
    let mut hand = Hand::connect(&mut vm);
    assert!(hand.ask("?").starts_with("T05"));
    // Addresses and lengths at the limits.
    for (packet, expected) in [
        ("mffffffffffffffff,1", "E0e"),
        ("mfffffffffffffff0,10", "E0e"),
        ("m7fffffffffffffff,10", "E0e"),
        ("Mffffffffffffffff,1:00", "E0e"),
        ("Z0,ffffffffffffffff,1", "E16"),
        ("Z2,ffffffffffffffff,8", "E16"),
        ("Z2,100000,0", "E16"),
        ("z0,100000,1", "E16"),
    ] {
        assert_eq!(
            hand.ask(packet).to_lowercase(),
            expected.to_lowercase(),
            "{packet}"
        );
    }
    client.stop().unwrap();
    assert_eq!(vm.end().status, Some(5), "the VM ends while it stands still");
}

#[test]
fn a_guest_that_gives_up_can_be_looked_at_before_the_vm_ends() {
    if !has_kvm() {
        return;
    }
    // Without an interrupt table an undefined instruction leads to a triple fault.
    let mut vm = spec(&Payload::new().print("x").raw(&[0x0f, 0x0b]).forever(), true).start();
    let mut hand = Hand::connect(&mut vm);
    assert!(hand.ask("?").starts_with("T05"));
    let stop = hand.ask("vCont;c");
    assert!(
        stop.starts_with("T0bthread:01") || stop.starts_with("T04thread:01"),
        "{stop}"
    );
    let registers = hand.ask("g");
    assert!(registers.len() > 20, "{registers}");
    let client = vm.client();
    let exits = eventually("the end to be counted", || {
        let exits = client.metrics().unwrap().vcpus.remove(0);
        (exits.count("shutdown") + exits.count("internal_error") > 0).then_some(exits)
    });
    assert_eq!(
        exits.count("shutdown") + exits.count("internal_error"),
        1,
        "{exits:?}"
    );
    assert_eq!(exits.count("io_out"), 1, "{exits:?}");
    assert!(hand.ask("vCont;c").starts_with('W'));
    let ended = vm.end();
    let reason = ended.report.unwrap().reason;
    assert!(
        matches!(reason, ExitReason::Panic | ExitReason::Error),
        "{reason:?}"
    );
}

#[test]
fn the_watchdog_does_not_bark_while_a_debugger_holds_the_guest() {
    if !has_kvm() {
        return;
    }
    let ticks = 500;
    let head = Payload::new().start_watchdog(ticks);
    let stop = format!("Z1,{:x},1", LOAD_ADDRESS + head.len() as u64);
    let mut vm = spec(&head.forever(), true).set("watchdog", json!({})).start();
    let client = vm.client();
    let mut hand = Hand::connect(&mut vm);
    assert!(hand.ask("?").starts_with("T05"));
    assert_eq!(hand.ask(&stop), "OK");
    assert!(hand.ask("vCont;c").starts_with("T05thread:01"));
    std::thread::sleep(Duration::from_millis(4 * u64::from(ticks)));
    let barks = client.metrics().unwrap().devices["watchdog"]["expirations"].clone();
    assert_eq!(barks, 0);
    // Its time goes on with the guest's.
    assert_eq!(hand.ask("D"), "OK");
    let message = vm.end().report.unwrap().message;
    assert!(message.contains("did not feed its watchdog"), "{message}");
}

#[test]
fn a_vcpu_that_comes_is_under_the_debugger_too() {
    if !has_kvm() {
        return;
    }
    /// The register of processors that are there.
    const PRESENT: u16 = 0x620;
    let payload = Payload::new()
        .print("up")
        .wait_port32(PRESENT, 0b011)
        .print("two")
        .wait_port32(PRESENT, 0b111)
        .print("three")
        .forever();
    let mut vm = spec(&payload, true).set("cpu", json!({"max": 3})).start();
    let client = vm.client();
    let add = |count: u8| client.call("PUT", "/vcpus", Some(&json!({"count": count})), &[]);
    let mut hand = Hand::connect(&mut vm);
    assert!(hand.ask("?").starts_with("T05"));
    assert_eq!(hand.ask("qfThreadInfo"), "m01");
    hand.send("vCont;c");
    vm.wait_for("up");
    add(2).unwrap();
    vm.wait_for("two");
    hand.0.write_all(&[3]).unwrap();
    assert!(hand.answer().starts_with("T02thread:01"));
    assert_eq!(hand.ask("qfThreadInfo"), "m01,02");
    assert_eq!(hand.ask("Hg2"), "OK");
    assert!(hand.ask("g").len() > 20);
    // One that comes while the others stand still waits with them.
    add(3).unwrap();
    assert!(!vm.log().contains("three"));
    hand.send("vCont;c");
    vm.wait_for("three");
    hand.0.write_all(&[3]).unwrap();
    assert!(hand.answer().starts_with("T02thread:01"));
    assert_eq!(hand.ask("qfThreadInfo"), "m01,02,03");
    assert_eq!(hand.ask("D"), "OK");
    client.stop().unwrap();
    assert_eq!(vm.end().report.unwrap().reason, ExitReason::Killed);
}

#[test]
fn a_debugger_kills_the_vm() {
    if !has_kvm() {
        return;
    }
    let mut vm = spec(&dots(), false).start();
    let mut hand = Hand::connect(&mut vm);
    hand.ask("?");
    hand.send("k");
    let ended = vm.end();
    assert_eq!(ended.report.unwrap().message, "killed by the debugger");
}

/// Whether the host's processor runs the guest's kernel, so that its debug registers are there.
fn has_hardware(test: &str) -> bool {
    match probe() {
        KvmKind::Hardware { .. } => true,
        KvmKind::None { reason } | KvmKind::Software { reason } => skip(test, &reason),
    }
}

/// Whether the host's processor tells KVM of `int3`. The one that QEMU emulates for the test host hands it to the guest.
fn tells_int3(test: &str) -> bool {
    std::env::var_os("VIRGA_TEST_HOST").is_none()
        || skip(test, "the test host's processor does not stop at int3")
}

/// Says that a test is skipped, and why.
fn skip(test: &str, reason: &str) -> bool {
    let line = format!("{test}: {reason}\n");
    eprint!("skipped: {line}");
    if let Some(log) = std::env::var_os("VIRGA_SKIP_LOG") {
        let log = std::fs::OpenOptions::new().append(true).create(true).open(log);
        log.unwrap().write_all(line.as_bytes()).unwrap();
    }
    false
}

#[test]
fn a_watchpoint_stops_the_guest_behind_the_write() {
    if !has_hardware("a_watchpoint_stops_the_guest_behind_the_write") {
        return;
    }
    let payload = Payload::new()
        .store32(0x20_0000, 5)
        .store32(0x20_0004, 6)
        .power_off();
    let mut vm = spec(&payload, true).start();
    let mut hand = Hand::connect(&mut vm);
    assert!(hand.ask("?").starts_with("T05"));
    assert_eq!(hand.ask("Z2,200004,4"), "OK");
    let stop = hand.ask("vCont;c");
    assert!(stop.starts_with("T05thread:01;watch:"), "{stop}");
    assert_eq!(hand.ask("z2,200004,4"), "OK");
    assert!(hand.ask("vCont;c").starts_with('W'));
    assert_eq!(vm.end().status, Some(0));
}

#[test]
fn the_guests_own_breakpoint_instruction_reaches_its_handler() {
    let name = "the_guests_own_breakpoint_instruction_reaches_its_handler";
    if !has_hardware(name) || !tells_int3(name) {
        return;
    }
    const IDT: u64 = 0x20_0000;
    const POINTER: u64 = 0x20_1000;
    // jmp over it; mov al, 'h'; mov dx, 0x3f8; out dx, al; iretq
    let handler = [0xb0, b'h', 0x66, 0xba, 0xf8, 3, 0xee, 0x48, 0xcf];
    let head = Payload::new().raw(&[0xeb, 9]).raw(&handler);
    let address = LOAD_ADDRESS + 2;
    let gate = address & 0xffff | 0x10 << 16 | 0x8e00 << 32 | (address >> 16 & 0xffff) << 48;
    let payload = head
        // mov rsp, 0x210000
        .raw(&[0x48, 0xbc, 0, 0, 0x21, 0, 0, 0, 0, 0])
        .store64(IDT + 3 * 16, gate)
        .store64(IDT + 3 * 16 + 8, 0)
        .store16(POINTER, 0xfff)
        .store64(POINTER + 2, IDT)
        .at(POINTER)
        // lidt [rbx]; int3
        .raw(&[0x0f, 0x01, 0x1b, 0xcc]);
    let at = LOAD_ADDRESS + payload.len() as u64;
    let mut vm = spec(&payload.print("after").power_off(), true).start();
    let client = vm.client();
    let mut hand = Hand::connect(&mut vm);
    assert!(hand.ask("?").starts_with("T05"));
    assert_eq!(hand.ask(&format!("Z0,{at:x},1")), "OK");
    let stop = hand.ask("vCont;c");
    assert!(stop.starts_with("T05thread:01;swbreak:"), "{stop}");
    vm.wait_for("h");
    assert_eq!(client.metrics().unwrap().debugger.unwrap()["handed_back"], 1);
    drop(hand);
    let ended = vm.end();
    assert_eq!(
        (ended.status, ended.console.as_str()),
        (Some(0), "hafter"),
        "{}",
        ended.stderr
    );
}
