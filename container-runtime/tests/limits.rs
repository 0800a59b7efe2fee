//! Limits that bite.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::time::Duration;

use common::TestContainer;
use container_runtime::spec::Limits;
use container_runtime::state::ExitReason;

const EAT: &str = "awk 'BEGIN { s = \"0123456789abcdef\"; while (1) s = s s }'";

#[test]
fn a_process_above_the_memory_limit_is_killed_and_counted() {
    let mut container = TestContainer::script(&format!("{EAT}; echo status $?; read x"));
    container.spec.limits = Limits {
        memory_bytes: Some(24 << 20),
        swap_bytes: Some(0),
        ..Limits::default()
    };
    container.start();
    container.until_console("status 137");
    let metrics = container.client().metrics().unwrap();
    assert_eq!(metrics.memory_limit_bytes, Some(24 << 20));
    assert!(metrics.oom_kills >= 1, "{metrics:?}");
    assert!(metrics.memory_peak_bytes > 12 << 20, "{metrics:?}");
    container.client().kill(9).unwrap();
    assert!(container.wait().oom_kills >= 1);
}

#[test]
fn an_init_that_eats_all_memory_is_reported_as_out_of_memory() {
    let mut container = TestContainer::script(&format!("exec {EAT}"));
    container.spec.limits = Limits {
        memory_bytes: Some(24 << 20),
        swap_bytes: Some(0),
        ..Limits::default()
    };
    let (_, exit) = container.run();
    assert_eq!(exit.reason, ExitReason::Killed);
    assert!(exit.message.contains("memory"), "{}", exit.message);
}

#[test]
fn forks_stop_at_the_process_limit() {
    let mut container = TestContainer::script(
        "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1000 & done; echo reached the end",
    );
    container.spec.limits = Limits {
        pids_max: Some(8),
        ..Limits::default()
    };
    let (console, _) = container.run();
    assert!(console.contains("can't fork"), "{console}");
}

#[test]
fn processor_time_stays_within_the_quota_and_can_be_changed() {
    let mut container = TestContainer::script("echo up; while true; do :; done");
    container.spec.limits = Limits {
        cpu_quota_us: Some(5_000),
        cpu_period_us: Some(100_000),
        ..Limits::default()
    };
    container.start();
    container.until_console("up");
    let before = container.client().metrics().unwrap().cpu_usage_ns;
    std::thread::sleep(Duration::from_millis(1000));
    let used = container.client().metrics().unwrap().cpu_usage_ns - before;
    assert!(
        used > 0 && used < 250_000_000,
        "used {used} ns of a second, allowed 5 %"
    );
    let changed = Limits {
        pids_max: Some(50),
        memory_bytes: Some(64 << 20),
        ..Limits::default()
    };
    container.client().set_limits(&changed).unwrap();
    let metrics = container.client().metrics().unwrap();
    assert_eq!(
        (metrics.pids_limit, metrics.memory_limit_bytes),
        (Some(50), Some(64 << 20))
    );
    container.client().set_limits(&Limits::default()).unwrap();
    let metrics = container.client().metrics().unwrap();
    assert_eq!((metrics.pids_limit, metrics.memory_limit_bytes), (None, None));
}

#[test]
fn processors_can_be_pinned() {
    let mut container = TestContainer::script("grep Cpus_allowed_list /proc/self/status");
    container.spec.limits = Limits {
        cpu_set: Some("0".to_owned()),
        ..Limits::default()
    };
    let (console, _) = container.run();
    assert_eq!(console, "Cpus_allowed_list:\t0\n");
}
