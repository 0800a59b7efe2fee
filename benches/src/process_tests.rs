use std::path::Path;

use super::*;

#[test]
fn a_dropped_process_is_gone() {
    let process = Process::start(Command::new("sleep").arg("60")).unwrap();
    let folder = format!("/proc/{}", process.id());
    assert!(Path::new(&folder).exists());
    drop(process);
    assert!(!Path::new(&folder).exists());
}

#[test]
fn a_program_that_fails_tells_what_it_said() {
    let error = run(Command::new("sh").args(["-c", "echo no such thing >&2; exit 3"])).unwrap_err();
    assert!(error.to_string().contains("no such thing"), "{error}");
    assert!(error.to_string().contains("exit status: 3"), "{error}");
}

#[test]
fn a_program_that_ignores_the_request_is_killed() {
    let mut process =
        Process::start(Command::new("sh").args(["-c", "trap '' TERM; sleep 60 & wait; wait"])).unwrap();
    process.terminate(Duration::from_millis(100)).unwrap();
    assert!(process.ended().unwrap().is_some());
}

#[test]
fn last_words_are_short() {
    assert_eq!(last_words(""), "it said nothing");
    assert_eq!(last_words("a\nb\n\nc\nd\n"), "b / c / d");
}

#[test]
fn descendants_are_found_by_name() {
    let process = Process::start(Command::new("sh").args(["-c", "sleep 61 & wait"])).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    let found = loop {
        match descendant_named(process.id(), "sleep") {
            Ok(pid) => break pid,
            Err(error) if Instant::now() > deadline => panic!("{error}"),
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    };
    signal::kill(Pid::from_raw(found as i32), Signal::SIGKILL).unwrap();
}
