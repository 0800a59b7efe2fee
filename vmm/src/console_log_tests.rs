//! The bounded log.

use super::*;

#[test]
fn the_log_keeps_the_newest_output_within_its_bound() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("console.log");
    std::fs::write(&path, "earlier\n").unwrap();
    let mut log = ConsoleLog::open(&path).unwrap();
    let line = [b'x'; 999];
    for number in 0..2500 {
        log.append(&line);
        log.append(&[number as u8]);
    }
    let (new, old) = (
        std::fs::read(&path).unwrap(),
        std::fs::read(folder.path().join("console.log.old")).unwrap(),
    );
    assert!(new.len() as u64 <= MAX_LOG_BYTES && old.len() as u64 <= MAX_LOG_BYTES);
    assert!(old.len() > 900_000, "{}", old.len());
    assert_eq!(new.last(), Some(&((2499 % 256) as u8)));
}

#[test]
fn a_log_is_continued() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("console.log");
    for word in ["one ", "two"] {
        ConsoleLog::open(&path).unwrap().append(word.as_bytes());
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "one two");
}
