//! A kernel file of any contents, loaded into guest memory: `cargo +nightly fuzz run kernel_image`, in the folder `vmm`.

#![no_main]

use std::io::Write;

use libfuzzer_sys::fuzz_target;
use vmm::config::{BootProtocol, MemoryConfig};
use vmm::{loader, memory};

const MEMORY_BYTES: u64 = 8 << 20;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut file) = tempfile::tempfile() else { return };
    if file.write_all(bytes).is_err() {
        return;
    }
    let _ = loader::bzimage::parse(bytes, bytes.len() as u64);
    for protocol in [None, Some(BootProtocol::Pvh)] {
        let Ok(memory) = memory::create(MEMORY_BYTES, &MemoryConfig::default()) else { return };
        if let Ok(kernel) = loader::load_kernel(&memory, MEMORY_BYTES, &file, protocol) {
            assert!(kernel.end <= MEMORY_BYTES, "{kernel:?}");
        }
    }
});
