//! Small devices of the machine: what the guest finds, and what it hears of.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::payload::Payload;
use common::vm::{Spec, has_kvm};
use serde_json::json;

/// The event device's selector register.
const SELECTOR: u16 = 0x603;
const SLEEP_BUTTON: u8 = 2;
const GENERATION: u8 = 16;
const GENERATION_ID: u64 = 0xf8000;
const SMBIOS: u64 = 0xf0000;

#[test]
fn a_guest_finds_what_its_machine_is_called() {
    if !has_kvm() {
        return;
    }
    let payload = Payload::new().print_memory(SMBIOS, 600).power_off();
    let ended = Spec::new(&payload)
        .set(
            "smbios",
            json!({"serial": "serial-7", "oem_strings": ["role=test"]}),
        )
        .run_to_end();
    assert!(ended.console.starts_with("_SM3_"), "{}", ended.stderr);
    for text in ["Virga\0microVM\0serial-7\0\0", "role=test\0\0"] {
        assert!(ended.console.contains(text), "{:?}", ended.console);
    }
    let ended = Spec::new(&payload).run_to_end();
    assert_eq!(ended.console, "\0".repeat(600), "{}", ended.stderr);
}

#[test]
fn a_guest_hears_that_it_has_become_another_and_reads_its_new_id() {
    if !has_kvm() {
        return;
    }
    let payload = Payload::new()
        .print_memory(GENERATION_ID, 16)
        .wait_port8(SELECTOR, GENERATION)
        .print_memory(GENERATION_ID, 16)
        .wait_port8(SELECTOR, SLEEP_BUTTON)
        .power_off();
    let (first, second) = (
        "64636261-6665-6867-696a-6b6c6d6e6f70",
        "41424344-4546-4748-494a-4b4c4d4e4f50",
    );
    let mut vm = Spec::new(&payload).set("generation_id", first.into()).start();
    let client = vm.client();
    vm.wait_for("abcdefghijklmnop");
    let change = json!({"generation_id": second});
    assert_eq!(
        client.call("PUT", "/generation-id", Some(&change), &[]).unwrap(),
        change
    );
    assert_eq!(
        client.config().unwrap().generation_id.unwrap().to_string(),
        second
    );
    vm.wait_for("DCBAFEHGIJKLMNOP");
    let error = client
        .call("PUT", "/generation-id", Some(&json!({"generation_id": "x"})), &[])
        .unwrap_err();
    assert!(error.to_string().contains("not valid"), "{error}");
    client.call("PUT", "/sleep-button", None, &[]).unwrap();
    let ended = vm.end();
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
}

#[test]
fn an_id_that_nobody_chose_is_another_each_time() {
    if !has_kvm() {
        return;
    }
    let nil = "00000000-0000-0000-0000-000000000000";
    let mut vm = Spec::new(&Payload::new().forever())
        .set("generation_id", nil.into())
        .start();
    let client = vm.client();
    let change = || client.call("PUT", "/generation-id", None, &[]).unwrap();
    let first = change();
    assert_ne!(first, change());
}

#[test]
fn a_machine_without_generation_id_says_how_to_get_one() {
    if !has_kvm() {
        return;
    }
    let mut vm = Spec::new(&Payload::new().forever()).start();
    let error = vm.client().call("PUT", "/generation-id", None, &[]).unwrap_err();
    assert!(error.to_string().contains("set `generation_id`"), "{error}");
}

fn bark() -> Payload {
    Payload::new().print("up").start_watchdog(1).forever()
}

#[test]
fn a_watchdog_that_is_not_fed_ends_the_vm_as_it_was_told() {
    if !has_kvm() {
        return;
    }
    for (action, status) in [("reset", 3), ("poweroff", 0), ("panic", 4)] {
        let ended = Spec::new(&bark())
            .set("watchdog", json!({"action": action}))
            .run_to_end();
        assert_eq!(ended.status, Some(status), "{}", ended.stderr);
        assert!(
            ended
                .report
                .unwrap()
                .message
                .contains("did not feed its watchdog"),
            "{}",
            ended.stderr
        );
    }
    let mut vm = Spec::new(&bark())
        .set("watchdog", json!({"action": "none"}))
        .start();
    let client = vm.client();
    assert_eq!(client.devices().unwrap()[0].id, "watchdog");
    common::vm::eventually("the watchdog", || {
        (client.metrics().unwrap().devices["watchdog"]["expirations"] == 1).then_some(())
    });
    client.pause().unwrap();
    client.resume().unwrap();
    client.state().unwrap();
}

#[test]
fn a_watchdog_needs_a_pci_bus() {
    let spec = Spec::new(&Payload::new().forever())
        .set("transport", "mmio".into())
        .set("watchdog", json!({}));
    let ended = spec.run_to_end();
    assert_eq!(ended.status, Some(2));
    assert!(
        ended.stderr.contains("use \"transport\": \"pci\""),
        "{}",
        ended.stderr
    );
}

#[test]
fn the_cmos_clock_has_the_hosts_date_in_utc() {
    if !has_kvm() {
        return;
    }
    // mov dx, 0x3f8; for century, year, month, day: mov al, register; out 0x70, al; in al, 0x71; out dx, al
    let mut payload = Payload::new().raw(&[0x66, 0xba, 0xf8, 0x03]);
    for register in [0x32, 9, 8, 7] {
        payload = payload.raw(&[0xb0, register, 0xe6, 0x70, 0xe4, 0x71, 0xee]);
    }
    let spec = Spec::new(&payload.power_off());
    let today = || {
        let output = std::process::Command::new("date")
            .args(["-u", "+%Y%m%d"])
            .output();
        String::from_utf8(output.unwrap().stdout)
            .unwrap()
            .trim()
            .to_owned()
    };
    let before = today();
    let ended = spec.run_to_end();
    let told: String = ended.console.bytes().map(|byte| format!("{byte:02}")).collect();
    // It may have become midnight meanwhile.
    assert!(
        told == before || told == today(),
        "{told} on {before}: {}",
        ended.stderr
    );
}
