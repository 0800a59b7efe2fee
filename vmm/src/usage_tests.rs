//! Memory accounting.

use super::*;
use crate::config::MemoryConfig;

#[test]
fn guest_ranges_are_not_counted_as_overhead() {
    let smaps = "7f0000000000-7f0000100000 rw-p 00000000 00:00 0\nRss:  100 kB\nPss: 1 kB\n\
                 7f0000100000-7f0000200000 rw-p 00000000 08:01 5 /boot/vmlinux\nRss:  40 kB\n\
                 55d000000000-55d000010000 r-xp 00000000 08:01 6 /usr/bin/virga-vmm\nRss: 7 kB\n";
    let usage = sum(smaps, std::slice::from_ref(&(0x7f00_0000_0000..0x7f00_0020_0000)));
    assert_eq!((usage.resident_bytes, usage.overhead_bytes), (147 << 10, 7 << 10));
}

#[test]
fn this_process_has_memory() {
    let memory = crate::memory::create(4 << 20, &MemoryConfig::default()).unwrap();
    crate::memory::write(&memory, 0, &[1; 64 << 10]).unwrap();
    let usage = measure(&memory, &File::open("/proc/self/smaps").unwrap());
    assert!(
        usage.overhead_bytes > 0 && usage.resident_bytes >= usage.overhead_bytes + (64 << 10),
        "{usage:?}"
    );
}
