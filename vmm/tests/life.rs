//! The life of a VM as its user sees it: it runs, prints, ends in different ways, and can be paused and stopped.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::io::{Read, Write};

use common::payload::Payload;
use common::vm::{Spec, eventually, has_kvm};
use vmm::client::ClientError;
use vmm::control::state::VmState;
use vmm::exit::ExitReason;

#[test]
fn a_guest_prints_on_its_console_and_powers_off() {
    if !has_kvm() {
        return;
    }
    let ended = Spec::new(&Payload::new().print("hello from the guest\n").power_off()).run_to_end();
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    assert_eq!(
        ended.report.as_ref().unwrap().reason,
        ExitReason::Poweroff,
        "{ended:?}"
    );
    assert_eq!(ended.console, "hello from the guest\n");
}

#[test]
fn the_ways_to_end_are_told_apart() {
    if !has_kvm() {
        return;
    }
    let acpi_reset = Payload::new().out8(0x602, 1).forever();
    let keyboard_reset = Payload::new().out8(0x64, 0xfe).forever();
    // Without an interrupt table a software interrupt faults, so does the double fault: triple fault.
    let triple_fault = Payload::new().raw(&[0x0f, 0x0b]).forever();
    for (payload, reason, status, message) in [
        (acpi_reset, ExitReason::Reset, 3, "reset (ACPI)"),
        (keyboard_reset, ExitReason::Reset, 3, "keyboard controller"),
        (triple_fault, ExitReason::Panic, 4, "triple fault"),
    ] {
        let ended = Spec::new(&payload).run_to_end();
        let report = ended.report.unwrap();
        assert_eq!(
            (report.reason, ended.status),
            (reason, Some(status)),
            "{}",
            ended.stderr
        );
        assert!(report.message.contains(message), "{}", report.message);
    }
}

#[test]
fn what_the_guest_cannot_do_is_reported_with_instruction_and_registers() {
    if !has_kvm() {
        return;
    }
    // Runs into addresses that are neither memory nor device.
    let payload = Payload::new().print("jump").at(0xd000_0000).raw(&[0xff, 0xe3]);
    let ended = Spec::new(&payload).run_to_end();
    let report = ended.report.unwrap();
    assert!(
        matches!(report.reason, ExitReason::Error | ExitReason::Panic),
        "{report:?}"
    );
    for expected in [
        "vCPU 0",
        "rip=00000000d0000000",
        "rbx=00000000d0000000",
        "code at rip",
    ] {
        assert!(
            report.message.contains(expected),
            "{expected} is not in {}",
            report.message
        );
        assert!(
            ended.stderr.contains(expected),
            "{expected} is not in {}",
            ended.stderr
        );
    }
}

#[test]
fn pause_stands_still_and_resume_goes_on() {
    if !has_kvm() {
        return;
    }
    // Prints dots forever.
    let mut vm = Spec::new(
        &Payload::new()
            .print("go")
            .raw(&[0xb0, b'.', 0x66, 0xba, 0xf8, 3, 0xee, 0xeb, 0xfd]),
    )
    .start();
    let client = vm.client();
    vm.wait_for("go.");
    assert_eq!(client.state().unwrap().state, VmState::Running);
    client.pause().unwrap();
    assert_eq!(client.state().unwrap().state, VmState::Paused);
    let length = || {
        vm.log().len() as u64
            + std::fs::metadata(vm.run_dir().join("console.log.old"))
                .unwrap()
                .len()
    };
    // What was printed before the pause may still be on its way to the log.
    std::thread::sleep(std::time::Duration::from_millis(50));
    let still = length();
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(length(), still, "nothing is printed while the VM is paused");
    let refused = client.pause().unwrap_err();
    assert!(
        matches!(refused, ClientError::Refused { status: 409, .. }),
        "{refused}"
    );
    assert!(
        client
            .power_button()
            .unwrap_err()
            .to_string()
            .contains("the VM is paused")
    );
    client.resume().unwrap();
    eventually("more output", || (length() > still).then_some(()));
    client.stop().unwrap();
    let ended = vm.end();
    assert_eq!(ended.status, Some(5), "{}", ended.stderr);
    assert_eq!(ended.report.unwrap().reason, ExitReason::Killed);
}

#[test]
fn a_vm_waits_for_its_start_when_told_to() {
    if !has_kvm() {
        return;
    }
    let spec = Spec::new(&Payload::new().print("started").power_off()).set("autostart", false.into());
    let mut vm = spec.start();
    let client = vm.client();
    let state = client.state().unwrap();
    assert_eq!(
        (state.state, state.pid, state.memory_bytes),
        (VmState::Created, vm.process.id(), 16 << 20)
    );
    assert!(client.resume().unwrap_err().to_string().contains("not started"));
    assert_eq!(client.metrics().unwrap().boot.first_run_us, None);
    assert_eq!(vm.log(), "");
    client.start().unwrap();
    let ended = vm.end();
    assert_eq!((ended.status, ended.console.as_str()), (Some(0), "started"));
}

#[test]
fn clients_of_the_console_see_output_and_type_input() {
    if !has_kvm() {
        return;
    }
    // Echoes: in al, 0x3fd; test al, 1; jz again; in al, 0x3f8; out 0x3f8, al.
    let echo = [
        0x66, 0xba, 0xfd, 3, 0xec, 0xa8, 1, 0x74, 0xf7, 0x66, 0xba, 0xf8, 3, 0xec, 0xee, 0xeb, 0xef,
    ];
    let spec = Spec::new(&Payload::new().print("ready\n").raw(&echo)).set("autostart", false.into());
    let mut vm = spec.start();
    let client = vm.client();
    let (mut first, mut second) = (vm.console(), vm.console());
    // The VM answers on the control socket only after it has accepted what came before.
    client.state().unwrap();
    client.start().unwrap();
    let mut bytes = [0; 6];
    first.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"ready\n");
    let typed = "abcdefgh".repeat(25);
    first.write_all(typed.as_bytes()).unwrap();
    let mut echoed = vec![0; 6 + typed.len()];
    second.read_exact(&mut echoed).unwrap();
    assert_eq!(String::from_utf8_lossy(&echoed), format!("ready\n{typed}"));
}

#[test]
fn metrics_tell_how_long_the_start_took_and_what_memory_it_takes() {
    if !has_kvm() {
        return;
    }
    let mut vm = Spec::new(&Payload::new().print("up").forever())
        .set("memory_bytes", (128 << 20).into())
        .start();
    let client = vm.client();
    vm.wait_for("up");
    let metrics = client.metrics().unwrap();
    let first_run = metrics.boot.first_run_us.unwrap();
    assert!(
        first_run >= metrics.boot.first_run_from_main_us.unwrap() && first_run < 20_000_000,
        "{first_run}"
    );
    assert!(metrics.boot.built_us >= metrics.boot.loaded_us && metrics.boot.loaded_us > 0);
    assert!(
        metrics.overhead_bytes > 0 && metrics.overhead_bytes < metrics.resident_bytes,
        "{metrics:?}"
    );
    assert_eq!(client.config().unwrap().memory_bytes, 128 << 20);
    let devices = client.devices().unwrap();
    assert_eq!(devices.len(), 1);
    assert_eq!(
        (devices[0].kind.as_str(), devices[0].address.as_str()),
        ("serial", "port 0x3f8")
    );
    client.stop().unwrap();
    assert!(vm.end().report.unwrap().message.contains("stopped by request"));
}

#[test]
fn every_exit_is_counted_and_timed_by_its_reason() {
    if !has_kvm() {
        return;
    }
    // Port 0x3fd is the serial line's status, 0x4000 nobody's; PCI's configuration space is at 0xe000_0000, nothing at
    // 0xf800_0000.
    let input = [0x66, 0xba, 0xfd, 3, 0xec, 0xec, 0xec];
    let load = [0x8b, 0x03, 0x8b, 0x03];
    let payload = Payload::new()
        .raw(&input)
        .out32(0x4000, 1)
        .at(0xe000_0000)
        .raw(&load)
        .store16(0xe000_8004, 2)
        .store32(0xf800_0000, 1)
        .store32(0xf800_0004, 1)
        .print("counted")
        .forever();
    let mut vm = Spec::new(&payload).start();
    let client = vm.client();
    vm.wait_for("counted");
    client.pause().unwrap();
    let metrics = client.metrics().unwrap();
    let vcpu = &metrics.vcpus[0];
    let count = |reason| vcpu.count(reason);
    assert_eq!(
        ["io_in", "io_out", "mmio_read", "mmio_write"].map(count),
        [3, 8, 2, 3],
        "{vcpu:?}"
    );
    assert_eq!(vcpu.unclaimed, 3, "{vcpu:?}");
    assert!(count("intr") >= 1, "it was paused: {vcpu:?}");
    assert_eq!(vcpu.exits.len(), 5, "there was nothing else: {vcpu:?}");
    for (reason, exits) in &vcpu.exits {
        assert_eq!(exits.log2_us.iter().sum::<u64>(), exits.count, "{reason}");
    }
    client.stop().unwrap();
}

#[test]
fn a_signal_ends_the_vm_and_says_so() {
    if !has_kvm() {
        return;
    }
    let mut vm = Spec::new(&Payload::new().forever()).start();
    vm.client();
    let pid: serde_json::Value =
        serde_json::from_slice(&std::fs::read(vm.run_dir().join("pid.json")).unwrap()).unwrap();
    assert_eq!(pid["pid"], vm.process.id());
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", vm.process.id())).unwrap();
    assert_eq!(
        pid["start_time"].to_string(),
        stat.rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .nth(19)
            .unwrap()
    );
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(vm.process.id() as i32),
        nix::sys::signal::Signal::SIGTERM,
    )
    .unwrap();
    let ended = vm.end();
    let report = ended.report.unwrap();
    assert_eq!((report.reason, ended.status), (ExitReason::Killed, Some(5)));
    assert!(report.message.contains("signal 15"), "{}", report.message);
}

#[test]
fn the_power_button_raises_the_event_devices_interrupt() {
    if !has_kvm() {
        return;
    }
    // Pin 5 of the I/O APIC becomes vector 0x45 of the local APIC, where the payload waits for it.
    let payload = Payload::new()
        .store32(0xfee0_00f0, 0x1ff)
        .store32(0xfec0_0000, 0x10 + 2 * 5 + 1)
        .store32(0xfec0_0010, 0)
        .store32(0xfec0_0000, 0x10 + 2 * 5)
        .store32(0xfec0_0010, 0x45)
        .print("ready")
        .wait_bits32(0xfee0_0220, 1 << 5)
        .print(" pressed")
        .power_off();
    let mut vm = Spec::new(&payload).start();
    let client = vm.client();
    vm.wait_for("ready");
    client.power_button().unwrap();
    let ended = vm.end();
    assert_eq!(
        (ended.status, ended.console.as_str()),
        (Some(0), "ready pressed"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_kernel_that_panics_says_so() {
    if !has_kvm() {
        return;
    }
    let by_port = Payload::new().out8(0x505, 1).forever();
    // Slot 1 is the first that has no other device; its only BAR is the first that was placed.
    let by_pci = Payload::new()
        .store16(0xe000_8004, 2)
        .store8(0xc000_0000, 1)
        .forever();
    for (transport, payload) in [("mmio", by_port), ("pci", by_pci)] {
        let ended = Spec::new(&payload)
            .set("transport", transport.into())
            .run_to_end();
        let report = ended.report.unwrap();
        assert_eq!(
            (report.reason, ended.status),
            (ExitReason::Panic, Some(4)),
            "{}",
            ended.stderr
        );
        assert!(report.message.contains("panicked"), "{}", report.message);
    }
}
