//! Any bytes as an image: inspecting and unpacking them ends, writes nothing outside the folder, and never panics.
#![no_main]

use std::sync::atomic::AtomicBool;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(scratch) = tempfile::tempdir() else { return };
    let image = scratch.path().join("image");
    let dest = scratch.path().join("dest");
    if std::fs::write(&image, data).is_err() || std::fs::create_dir(&dest).is_err() {
        return;
    }
    let _ = images::inspect_unified(&image);
    let limits = images::Limits { bytes: 1 << 20, entries: 1000 };
    let _ = images::unpack_within(&image, None, &dest, &limits, &mut |_| {}, &AtomicBool::new(false));
    let entries = std::fs::read_dir(scratch.path()).map(|list| list.count()).unwrap_or(2);
    assert_eq!(entries, 2, "something was written outside the destination");
});
