//! A configuration of any contents: `cargo +nightly fuzz run config`, in the folder `vmm`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vmm::config::VmConfig;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(config) = VmConfig::from_json(bytes) {
        let Ok(text) = serde_json::to_vec(&config) else { panic!("what was read can be written") };
        assert_eq!(VmConfig::from_json(&text).ok().as_ref(), Some(&config));
    }
});
