//! Linux on the platform's own devices: the watchdog, and clocks.

#![allow(clippy::expect_used, reason = "a step that fails fails the test")]

use std::time::{SystemTime, UNIX_EPOCH};

use end_to_end::{Guest, virtual_machines_run_here};
use serde_json::json;

#[test]
fn a_guest_that_stops_feeding_its_watchdog_is_reset() {
    if !virtual_machines_run_here("a_guest_that_stops_feeding_its_watchdog_is_reset") {
        return;
    }
    // Fed for longer than its time, then not any more, and not stopped with its magic character.
    let script = "watchdog -F -T 4 -t 1 /dev/watchdog0 & feeder=$!
        sleep 8; echo fed; kill -9 $feeder; echo starving; sleep 60; echo survived; poweroff -f";
    let guest = Guest::start(script, |config| config["watchdog"] = json!({"action": "reset"}));
    let (console, report) = guest.end();
    assert_eq!(report["reason"], "reset", "{report} {console}");
    assert!(
        console.contains("starving") && !console.contains("survived"),
        "{console}"
    );
}

#[test]
fn linux_tells_the_hosts_time_by_all_its_clocks() {
    if !virtual_machines_run_here("linux_tells_the_hosts_time_by_all_its_clocks") {
        return;
    }
    let script = "echo source $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)
        echo ptp $(cat /sys/class/ptp/ptp0/clock_name)
        echo now $(date +%s)
        poweroff -f";
    let guest = Guest::start(script, |_| {});
    let (console, report) = guest.end();
    assert_eq!(report["reason"], "poweroff", "{report} {console}");
    assert!(console.contains("source kvm-clock"), "{console}");
    assert!(console.contains("ptp KVM virtual PTP"), "{console}");
    let word = |name: &str| {
        let line = console.lines().find_map(|line| line.strip_prefix(name));
        line.map(|text| text.trim().to_owned()).unwrap_or_default()
    };
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a time after 1970")
        .as_secs();
    let told: u64 = word("now ").parse().expect("a number of seconds");
    assert!(now.abs_diff(told) < 120, "{told} beside {now}");
}
