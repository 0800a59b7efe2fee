//! Files through a served connection, with russh's SFTP client.

#![allow(clippy::unwrap_used)] // a test that cannot go on ends here

mod common;

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use common::agent;
use guest_agent::client::{self, symlink};
use russh_sftp::client::SftpSession;
use russh_sftp::client::error::Error;
use russh_sftp::protocol::{FileAttributes, OpenFlags, StatusCode};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn session() -> (SftpSession, TempDir) {
    (
        client::sftp_session(agent().0).await.unwrap(),
        TempDir::new().unwrap(),
    )
}

fn in_directory(directory: &TempDir, name: &str) -> String {
    directory.path().join(name).to_str().unwrap().into()
}

fn code<T>(result: Result<T, Error>) -> StatusCode {
    match result {
        Err(Error::Status(status)) => status.status_code,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it worked"),
    }
}

#[tokio::test]
async fn a_large_file_comes_back_as_it_went() {
    let (sftp, directory) = session().await;
    let path = in_directory(&directory, "big");
    let data: Vec<u8> = (0..1_500_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let mut file = sftp.create(&path).await.unwrap();
    file.write_all(&data).await.unwrap();
    file.shutdown().await.unwrap();
    assert!(std::fs::read(&path).unwrap() == data);
    let mut back = Vec::new();
    sftp.open(&path)
        .await
        .unwrap()
        .read_to_end(&mut back)
        .await
        .unwrap();
    assert!(back == data);
}

#[tokio::test]
async fn a_new_file_has_the_mode_and_owner_asked_for() {
    let (sftp, directory) = session().await;
    let path = in_directory(&directory, "script");
    let attributes = FileAttributes {
        permissions: Some(0o750),
        ..FileAttributes::empty()
    };
    let flags = OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::EXCLUDE;
    let file = sftp
        .open_with_flags_and_attributes(&path, flags, attributes)
        .await
        .unwrap();
    drop(file);
    let owner = FileAttributes {
        uid: Some(1000),
        gid: Some(1001),
        permissions: Some(0o4755),
        atime: Some(5),
        mtime: Some(1_000_000_000),
        ..FileAttributes::empty()
    };
    sftp.set_metadata(&path, owner).await.unwrap();
    let found = std::fs::metadata(&path).unwrap();
    assert_eq!(
        (found.uid(), found.gid(), found.mode() & 0o7777),
        (1000, 1001, 0o4755)
    );
    assert_eq!((found.atime(), found.mtime()), (5, 1_000_000_000));
    assert_eq!(
        code(sftp.open_with_flags(&path, flags).await),
        StatusCode::Failure
    );
}

#[tokio::test]
async fn appending_and_truncating_do_what_they_say() {
    let (sftp, directory) = session().await;
    let path = in_directory(&directory, "log");
    std::fs::write(&path, "one").unwrap();
    let mut file = sftp
        .open_with_flags(&path, OpenFlags::WRITE | OpenFlags::APPEND)
        .await
        .unwrap();
    file.write_all(b" two").await.unwrap();
    file.shutdown().await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"one two");
    sftp.set_metadata(
        &path,
        FileAttributes {
            size: Some(2),
            ..FileAttributes::empty()
        },
    )
    .await
    .unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"on");
    sftp.create(&path).await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"");
}

#[tokio::test]
async fn directories_are_made_listed_and_removed() {
    let (sftp, directory) = session().await;
    let path = in_directory(&directory, "d");
    sftp.create_dir(&path).await.unwrap();
    for number in 0..300 {
        std::fs::write(format!("{path}/{number}"), "").unwrap();
    }
    let mut names: Vec<u32> = sftp
        .read_dir(&path)
        .await
        .unwrap()
        .map(|entry| entry.file_name().parse().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names, (0..300).collect::<Vec<_>>());
    assert_eq!(code(sftp.remove_dir(&path).await), StatusCode::Failure);
    assert_eq!(code(sftp.remove_file(&path).await), StatusCode::Failure);
    for number in 0..300 {
        sftp.remove_file(format!("{path}/{number}")).await.unwrap();
    }
    sftp.remove_dir(&path).await.unwrap();
    assert_eq!(code(sftp.read_dir(&path).await), StatusCode::NoSuchFile);
}

#[tokio::test]
async fn links_point_where_they_should() {
    let (sftp, directory) = session().await;
    let link = in_directory(&directory, "link");
    symlink(&sftp, &link, "../somewhere/else").await.unwrap();
    assert_eq!(
        std::fs::read_link(&link).unwrap().to_str(),
        Some("../somewhere/else")
    );
    assert_eq!(sftp.read_link(&link).await.unwrap(), "../somewhere/else");
    assert!(
        sftp.symlink_metadata(&link)
            .await
            .unwrap()
            .file_type()
            .is_symlink()
    );
    assert_eq!(code(sftp.metadata(&link).await), StatusCode::NoSuchFile);
}

#[tokio::test]
async fn device_nodes_are_not_taken_for_links() {
    let (sftp, _directory) = session().await;
    let attributes = sftp.symlink_metadata("/dev/null").await.unwrap();
    assert_eq!(attributes.permissions.unwrap() & 0o170_000, 0o020_000);
    assert_eq!(code(sftp.open("/etc").await), StatusCode::Failure);
}

#[tokio::test]
async fn renaming_never_replaces() {
    let (sftp, directory) = session().await;
    let [old, new] = ["old", "new"].map(|name| in_directory(&directory, name));
    std::fs::write(&old, "old").unwrap();
    std::fs::write(&new, "new").unwrap();
    assert_eq!(code(sftp.rename(&old, &new).await), StatusCode::Failure);
    std::fs::remove_file(&new).unwrap();
    sftp.rename(&old, &new).await.unwrap();
    assert_eq!(std::fs::read(&new).unwrap(), b"old");
}

#[tokio::test]
async fn extensions_link_and_measure() {
    let (sftp, directory) = session().await;
    let [old, new] = ["old", "new"].map(|name| in_directory(&directory, name));
    std::fs::write(&old, "x").unwrap();
    assert!(sftp.hardlink(&old, &new).await.unwrap());
    assert_eq!(std::fs::metadata(&new).unwrap().nlink(), 2);
    let info = sftp.fs_info(&old).await.unwrap().unwrap();
    assert!(info.blocks > 0 && info.name_max >= 255);
    let file = sftp.open_with_flags(&old, OpenFlags::WRITE).await.unwrap();
    file.sync_all().await.unwrap();
}

#[tokio::test]
async fn paths_are_resolved_even_where_nothing_is() {
    let (sftp, directory) = session().await;
    assert_eq!(sftp.canonicalize(".").await.unwrap(), "/");
    let missing = in_directory(&directory, "a/../b");
    assert_eq!(
        sftp.canonicalize(missing).await.unwrap(),
        in_directory(&directory, "b")
    );
}

#[tokio::test]
async fn a_fifo_without_partner_holds_nothing_up() {
    let (sftp, directory) = session().await;
    let path = in_directory(&directory, "fifo");
    nix::unistd::mkfifo(path.as_str(), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    assert_eq!(
        code(sftp.open_with_flags(&path, OpenFlags::WRITE).await),
        StatusCode::Failure
    );
    sftp.set_metadata(
        &path,
        FileAttributes {
            permissions: Some(0o640),
            ..FileAttributes::empty()
        },
    )
    .await
    .unwrap();
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o640
    );
}

#[tokio::test]
async fn malformed_packets_are_answered_under_their_id() {
    let mut stream = client::sftp(agent().0).await.unwrap();
    // SSH_FXP_LSTAT, id 77, a string longer than the packet
    stream
        .write_all(&[0, 0, 0, 9, 7, 0, 0, 0, 77, 0, 0, 9, 9])
        .await
        .unwrap();
    let length = stream.read_u32().await.unwrap();
    let mut reply = vec![0; length as usize];
    stream.read_exact(&mut reply).await.unwrap();
    assert_eq!(&reply[..9], [101, 0, 0, 0, 77, 0, 0, 0, 5]);
}
