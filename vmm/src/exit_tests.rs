//! The report of a VM's end.

use super::*;

#[test]
fn a_report_is_read_back_as_written() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(ExitReport::read(folder.path()).unwrap(), None);
    let report = ExitReport::new(ExitReason::Poweroff, "the guest powered off");
    write_json_at(&File::open(folder.path()).unwrap(), EXIT_FILE, Sync::Yes, &report).unwrap();
    assert_eq!(ExitReport::read(folder.path()).unwrap(), Some(report));
    let names: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(names, [EXIT_FILE], "no temporary file stays behind");
}

#[test]
fn reasons_have_the_names_of_the_contract_and_statuses_of_their_own() {
    let text = serde_json::to_string(&ExitReport::new(ExitReason::Panic, "m")).unwrap();
    assert_eq!(text, r#"{"reason":"panic","status":null,"message":"m"}"#);
    let statuses: std::collections::BTreeSet<_> = [
        ExitReason::Poweroff,
        ExitReason::Reset,
        ExitReason::Panic,
        ExitReason::Killed,
        ExitReason::Error,
    ]
    .map(ExitReason::process_status)
    .into();
    assert_eq!(statuses.len(), 5);
}
