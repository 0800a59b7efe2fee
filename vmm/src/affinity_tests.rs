//! Threads on CPUs of this machine.

use super::*;

fn config(vcpus: &[&str], devices: Option<&str>) -> CpuConfig {
    serde_json::from_value(serde_json::json!({"pinning": {"vcpus": vcpus, "devices": devices}})).unwrap()
}

fn here() -> Numbers {
    let own = sched_getaffinity(SELF).unwrap();
    (0..1024u16)
        .filter(|cpu| own.is_set(usize::from(*cpu)).unwrap())
        .collect()
}

#[test]
fn cpus_of_this_process_are_taken_and_others_named() {
    let all = here();
    let first = all.iter().next().unwrap().to_string();
    check(&config(&[&first, &all.to_string()], Some(&first))).unwrap();
    let beyond = format!("{first},1000");
    let error = check(&config(&[&first, &beyond], None)).unwrap_err().to_string();
    assert!(
        error.contains(&format!("cpu.pinning.vcpus[1] is {beyond}")),
        "{error}"
    );
    assert!(error.contains(&format!("may use {first:?} of these")), "{error}");
    let error = check(&config(&[], Some("8000"))).unwrap_err().to_string();
    assert!(
        error.contains("cpu.pinning.devices is 8000, but this process may use \"\""),
        "{error}"
    );
    assert_eq!(here(), all, "nothing has moved this thread");
}

#[test]
fn a_pinned_thread_and_its_children_run_there_only() {
    let first: Numbers = here().iter().take(1).collect();
    let wanted = first.clone();
    let child = std::thread::spawn(move || {
        pin(&first).unwrap();
        std::thread::spawn(here).join().unwrap()
    });
    assert_eq!(child.join().unwrap(), wanted);
}
