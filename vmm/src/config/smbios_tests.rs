//! Strings that can be, and strings that cannot.

use super::*;
use serde_json::{Value, json};

fn check(document: Value) -> Result<(), String> {
    let config: SmbiosConfig = serde_json::from_value(document).map_err(|error| error.to_string())?;
    config.check().map_err(|error| error.to_string())
}

#[test]
fn strings_that_cannot_be_are_refused() {
    check(json!({})).unwrap();
    check(json!({
        "manufacturer": "Größenwahn GmbH", "uuid": "00112233-4455-6677-8899-aabbccddeeff",
        "oem_strings": vec!["io.systemd.credential:a=b"; 255],
    }))
    .unwrap();
    for (document, expected) in [
        (
            json!({"serial": ""}),
            "`smbios.serial` is \"\": use 1 to 1024 bytes",
        ),
        (json!({"serial": "a\u{0}b"}), "without control characters"),
        (json!({"sku": "x".repeat(1025)}), "`smbios.sku`"),
        (json!({"oem_strings": ["a", "b\n"]}), "`smbios.oem_strings[1]`"),
        (
            json!({"oem_strings": vec!["a"; 256]}),
            "is 256 strings: at most 255",
        ),
        (
            json!({"oem_strings": vec!["a".repeat(1000); 25]}),
            "`smbios` is 25025 bytes long",
        ),
        (json!({"uuid": "0011"}), "UUID"),
        (json!({"colour": "red"}), "unknown field `colour`"),
    ] {
        let message = check(document.clone()).unwrap_err();
        assert!(message.contains(expected), "{document}: {message}");
    }
}
