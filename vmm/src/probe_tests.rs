//! The probe on this host, whatever it is.

use super::*;

#[test]
fn the_answer_is_quick_definite_and_repeatable() {
    let first = probe();
    let start = std::time::Instant::now();
    let second = probe();
    assert_eq!(first, second);
    assert!(start.elapsed().as_millis() < 2000, "{:?}", start.elapsed());
    match &first {
        KvmKind::None { reason } => {
            assert!(
                !std::path::Path::new("/dev/kvm").exists() || !reason.is_empty(),
                "{reason}"
            );
        }
        KvmKind::Software { reason } => assert!(reason.contains("INT3"), "{reason}"),
        KvmKind::Hardware { vendor, .. } => assert_eq!(vendor.len(), 12, "{vendor}"),
    }
}

#[test]
fn the_answer_reads_well_as_json() {
    let text = serde_json::to_string(&KvmKind::Hardware {
        vendor: "GenuineIntel".into(),
        nested: true,
    })
    .unwrap();
    assert_eq!(
        text,
        r#"{"kind":"hardware","vendor":"GenuineIntel","nested":true}"#
    );
    assert!(missing(&io::Error::from(io::ErrorKind::NotFound)).contains("kvm_intel"));
}
