//! What the section about processors may and may not say.

use super::*;

fn check(section: serde_json::Value) -> Result<(), String> {
    let config: CpuConfig = serde_json::from_value(section).map_err(|error| error.to_string())?;
    config.check(2).map_err(|error| error.to_string())
}

#[test]
fn models_features_and_pinning_are_taken() {
    for section in [
        serde_json::json!({}),
        serde_json::json!({"model": "x86-64-v3", "features": ["+sha_ni", "-smep", "+vaes"]}),
        serde_json::json!({"features": ["-avx"]}),
        serde_json::json!({"max": 3, "pinning": {"vcpus": ["0", "1-2", "0-3,8"], "devices": "9"}}),
    ] {
        check(section).unwrap();
    }
}

#[test]
fn names_that_do_not_exist_or_contradict_are_refused_with_what_would_do() {
    for (section, expected) in [
        (
            serde_json::json!({"features": ["avx2"]}),
            "`cpu.features[0]` is \"avx2\": begin with +",
        ),
        (
            serde_json::json!({"features": ["-avx", "+avx22"]}),
            "`cpu.features[1]` is \"+avx22\": there is no such feature; there are avx2",
        ),
        (
            serde_json::json!({"features": ["+warp_drive"]}),
            "names are those of /proc/cpuinfo",
        ),
        (
            serde_json::json!({"features": ["-avx", "+avx2"]}),
            "decide for one of both",
        ),
        (
            serde_json::json!({"features": ["-aes", "+aes"]}),
            "decide for one of both",
        ),
        (
            serde_json::json!({"model": "x86-64-v2", "features": ["+avx2"]}),
            "it needs avx, which x86-64-v2 does not have; add it, too",
        ),
        (serde_json::json!({"model": "x86-64-v5"}), "x86-64-v4"),
        (
            serde_json::json!({"pinning": {"vcpus": ["0"]}}),
            "give one for each of the 2 vCPUs",
        ),
        (
            serde_json::json!({"pinning": {"devices": ""}}),
            "is no list of numbers",
        ),
    ] {
        let problem = check(section).unwrap_err();
        assert!(problem.contains(expected), "{problem}");
    }
}
