use std::fs;

use super::*;

/// KiB of the program's pages without the right to write that are mapped into this process.
fn program_kib() -> u64 {
    let program = fs::read_link("/proc/self/exe").unwrap();
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
    let (mut counts, mut sum) = (false, 0);
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap();
        if first.contains('-') {
            counts = line.ends_with(program.to_str().unwrap()) && !line.contains(" rw");
        } else if first == "Rss:" && counts {
            sum += words.next().unwrap().parse::<u64>().unwrap();
        }
    }
    sum
}

#[test]
fn the_program_goes_on_with_fewer_pages() {
    let before = program_kib();
    let_go_of_program().unwrap();
    let after = program_kib();
    // Other tests run in this process meanwhile and bring theirs back.
    assert!(after < before, "{after} KiB of {before} KiB");
}
