use super::*;

const SMAPS: &str = "\
00400000-00500000 r-xp 00000000 fe:00 17                        /usr/bin/vmm
Size:               1024 kB
Rss:                 900 kB
Pss:                 600 kB
7f0000000000-7f0001000000 rw-p 00000000 00:00 0
Rss:                   8 kB
Pss:                   8 kB
7f0001000000-7f0002000000 rw-p 00001000 fe:00 18                /boot/vmlinux
Rss:                  80 kB
Pss:                  40 kB
7f0002000000-7f0008000000 rw-p 00000000 00:00 0
Pss:                   0 kB
7f0008000000-7f0008100000 rw-p 00000000 00:00 0
Pss:                  12 kB
VmFlags: rd wr mr mw me ac
";

#[test]
fn pieces_of_guest_memory_are_put_together() {
    let footprint = split(&parse(SMAPS), 128 << 20).unwrap();
    assert_eq!(footprint.guest_bytes, 48 << 10);
    assert_eq!(footprint.own_bytes, 612 << 10);
}

#[test]
fn guest_memory_that_was_merged_with_a_neighbour_is_found() {
    let merged = "7f0000000000-7f0010000000 rw-p 0 00:00 0\nPss: 100 kB\n00400000-00500000 r-xp 0 fe:00 1 /vmm\nPss: 7 kB\n";
    let footprint = split(&parse(merged), 128 << 20).unwrap();
    assert_eq!((footprint.guest_bytes, footprint.own_bytes), (100 << 10, 7 << 10));
}

#[test]
fn a_process_without_guest_memory_is_refused() {
    assert_eq!(split(&parse(SMAPS), 4 << 30), None);
}

#[test]
fn this_process_is_resident() {
    assert!(resident_bytes(std::process::id()).unwrap() > 100 << 10);
}
