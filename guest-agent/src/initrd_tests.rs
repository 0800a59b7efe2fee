use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};

use super::*;

/// Unpacks with cpio(1), an independent reader of the format.
fn unpack(archive: &[u8]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let mut cpio = Command::new("cpio")
        .args([
            "--extract",
            "--make-directories",
            "--quiet",
            "--no-absolute-filenames",
        ])
        .current_dir(directory.path())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    cpio.stdin.take().unwrap().write_all(archive).unwrap();
    assert!(cpio.wait().unwrap().success());
    directory
}

#[test]
fn init_archive_holds_init_and_a_console() {
    let agent = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(agent.path(), b"\x7fELF odd").unwrap();
    let archive = init_archive(agent.path()).unwrap();
    assert_eq!(archive.len() % 4, 0);
    let root = unpack(&archive);
    let init = root.path().join("init");
    assert_eq!(std::fs::read(&init).unwrap(), b"\x7fELF odd");
    assert_eq!(
        std::fs::metadata(&init).unwrap().permissions().mode() & 0o777,
        0o755
    );
    let console = std::fs::symlink_metadata(root.path().join("dev/console")).unwrap();
    assert!(console.file_type().is_char_device());
    assert_eq!(console.rdev(), nix::libc::makedev(5, 1));
    for directory in DIRECTORIES {
        assert!(root.path().join(directory).is_dir(), "{directory}");
    }
}

#[test]
fn config_archive_holds_the_configuration() {
    let config = GuestConfig {
        hostname: "größe".into(),
        ..GuestConfig::default()
    };
    let root = unpack(&config_archive(&config).unwrap());
    let json = std::fs::read(root.path().join("virga/config.json")).unwrap();
    assert_eq!(serde_json::from_slice::<GuestConfig>(&json).unwrap(), config);
}

#[test]
fn a_missing_agent_is_an_error() {
    assert_eq!(
        init_archive(Path::new("/nowhere/agent")).unwrap_err().kind(),
        io::ErrorKind::NotFound
    );
}
