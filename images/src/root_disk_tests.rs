use super::*;

fn header(version: u32, backing: u64, features: u64) -> Vec<u8> {
    let mut bytes = b"QFI\xfb".to_vec();
    bytes.extend(version.to_be_bytes());
    bytes.extend(backing.to_be_bytes());
    bytes.extend([0; 8]);
    bytes.extend((1u64 << 30).to_be_bytes());
    bytes.resize(72, 0);
    bytes.extend(features.to_be_bytes());
    bytes.resize(1024, 0);
    bytes
}

#[test]
fn only_disk_images_that_stand_alone_are_accepted() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("disk.qcow2");
    let size = |bytes: Vec<u8>| {
        fs::write(&file, bytes).unwrap();
        qcow2_size(&file)
    };
    assert_eq!(size(header(3, 0, 0)).unwrap(), 1 << 30);
    assert!(
        size(header(3, 4096, 0))
            .unwrap_err()
            .to_string()
            .contains("another file")
    );
    assert!(
        size(header(3, 0, 4))
            .unwrap_err()
            .to_string()
            .contains("another file")
    );
    assert!(
        size(header(9, 0, 0))
            .unwrap_err()
            .to_string()
            .contains("version 9")
    );
    assert!(
        size(b"QFI\xfb".to_vec())
            .unwrap_err()
            .to_string()
            .contains("header")
    );
}
