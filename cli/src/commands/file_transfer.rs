//! Copying single files and whole trees over SFTP.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use russh_sftp::client::SftpSession;
use russh_sftp::protocol::{FileAttributes, OpenFlags};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use super::Context;
use crate::error::{Error, Result};
use crate::progress;

const CHUNK: usize = 128 << 10;
/// Deeper trees are a loop or a mistake.
const MAX_DEPTH: usize = 128;

/// What a pushed file gets instead of its local attributes.
#[derive(Clone, Copy)]
pub(super) struct Attributes {
    /// Permission bits.
    pub(super) mode: Option<u32>,
    /// Owner.
    pub(super) uid: Option<u32>,
    /// Group.
    pub(super) gid: Option<u32>,
}

impl Attributes {
    fn with_mode(self, mode: u32) -> FileAttributes {
        FileAttributes {
            permissions: Some(self.mode.unwrap_or(mode & 0o7777)),
            // Files belong to the instance's root unless someone else was named.
            uid: Some(self.uid.unwrap_or(0)),
            gid: Some(self.gid.unwrap_or(0)),
            ..FileAttributes::empty()
        }
    }
}

/// Writes everything from `input` to the remote file `path`.
pub(super) async fn push_stream<R>(
    sftp: &SftpSession,
    input: R,
    path: &str,
    attributes: Attributes,
) -> Result<()>
where
    R: AsyncRead + Unpin,
{
    write_remote(sftp, input, path, attributes.with_mode(0o644), |_| {}).await
}

/// Copies a local file, link or (when `recursive`) folder to the remote `destination`.
pub(super) async fn push_path(
    context: &Context,
    sftp: &SftpSession,
    source: &Path,
    destination: &str,
    recursive: bool,
    attributes: Attributes,
) -> Result<()> {
    let mut pending = vec![(source.to_owned(), destination.to_owned(), 0)];
    let mut first = true;
    while let Some((source, destination, depth)) = pending.pop() {
        let shown = source.display();
        // The source itself may be a link to what is meant; links further down are copied as links.
        let metadata = if first {
            std::fs::metadata(&source)
        } else {
            std::fs::symlink_metadata(&source)
        }
        .map_err(|err| Error::io(format!("read {shown}"), err))?;
        first = false;
        if metadata.is_dir() {
            if !recursive {
                return Err(Error::Usage(format!(
                    "{shown} is a folder; push it with --recursive"
                )));
            }
            if depth >= MAX_DEPTH {
                return Err(Error::Usage(format!(
                    "{shown} is more than {MAX_DEPTH} folders deep"
                )));
            }
            if !sftp
                .metadata(&destination)
                .await
                .is_ok_and(|metadata| metadata.is_dir())
            {
                let failed = |err| Error::sftp(format!("make the folder {destination}"), err);
                sftp.create_dir(&destination).await.map_err(failed)?;
                let folder = Attributes {
                    mode: None,
                    ..attributes
                };
                sftp.set_metadata(&destination, folder.with_mode(metadata.mode()))
                    .await
                    .map_err(failed)?;
            }
            let entries =
                std::fs::read_dir(&source).map_err(|err| Error::io(format!("list {shown}"), err))?;
            for entry in entries {
                let entry = entry.map_err(|err| Error::io(format!("list {shown}"), err))?;
                let below = format!("{destination}/{}", entry.file_name().to_string_lossy());
                pending.push((entry.path(), below, depth + 1));
            }
        } else if metadata.is_symlink() {
            let target =
                std::fs::read_link(&source).map_err(|err| Error::io(format!("read {shown}"), err))?;
            let _ = sftp.remove_file(&destination).await;
            // Target first: OpenSSH's order, which every server follows, is the reverse of the draft's.
            sftp.symlink(target.to_string_lossy(), &destination)
                .await
                .map_err(|err| Error::sftp(format!("make the link {destination}"), err))?;
        } else if metadata.is_file() {
            let file = tokio::fs::File::open(&source)
                .await
                .map_err(|err| Error::io(format!("open {shown}"), err))?;
            let bar = progress::transfer(context.quiet, metadata.len(), format!("Pushing {shown}"));
            write_remote(
                sftp,
                file,
                &destination,
                attributes.with_mode(metadata.mode()),
                |n| bar.inc(n),
            )
            .await?;
            bar.finish_and_clear();
        } else {
            context.remark(format!("{shown} is neither file, folder nor link: left out"));
        }
    }
    Ok(())
}

async fn write_remote<R>(
    sftp: &SftpSession,
    mut input: R,
    path: &str,
    attributes: FileAttributes,
    progress: impl Fn(u64),
) -> Result<()>
where
    R: AsyncRead + Unpin,
{
    let action = format!("write {path}");
    let flags = OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::TRUNCATE;
    let mut remote = sftp
        .open_with_flags(path, flags)
        .await
        .map_err(|err| Error::sftp(&action, err))?;
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = input
            .read(&mut buffer)
            .await
            .map_err(|err| Error::io("read what is to be pushed", err))?;
        if read == 0 {
            break;
        }
        remote
            .write_all(&buffer[..read])
            .await
            .map_err(|err| Error::io(&action, err))?;
        progress(read as u64);
    }
    remote.flush().await.map_err(|err| Error::io(&action, err))?;
    remote.close().await.map_err(|err| Error::io(&action, err))?;
    sftp.set_metadata(path, attributes)
        .await
        .map_err(|err| Error::sftp(format!("set the owner and mode of {path}"), err))
}

/// Copies the remote file or (when `recursive`) folder `source` to `destination`; `-` is standard output.
pub(super) async fn pull_path(
    context: &Context,
    sftp: &SftpSession,
    source: &str,
    destination: &Path,
    recursive: bool,
) -> Result<()> {
    let mut pending = vec![(source.to_owned(), destination.to_owned(), 0)];
    let mut first = true;
    while let Some((source, destination, depth)) = pending.pop() {
        let found = if first {
            sftp.metadata(&source).await
        } else {
            sftp.symlink_metadata(&source).await
        };
        let metadata = found.map_err(|err| Error::sftp(format!("read {source}"), err))?;
        first = false;
        let shown = destination.display().to_string();
        let local = |err| Error::io(format!("write {shown}"), err);
        if metadata.is_dir() {
            if !recursive {
                return Err(Error::Usage(format!(
                    "{source} is a folder; pull it with --recursive"
                )));
            }
            if depth >= MAX_DEPTH {
                return Err(Error::Usage(format!(
                    "{source} is more than {MAX_DEPTH} folders deep"
                )));
            }
            std::fs::create_dir_all(&destination).map_err(local)?;
            let entries = sftp
                .read_dir(&source)
                .await
                .map_err(|err| Error::sftp(format!("list {source}"), err))?;
            for entry in entries {
                let name = entry.file_name();
                // A hostile instance must not lead us out of the folder.
                if name.is_empty() || name == "." || name == ".." || name.contains('/') {
                    continue;
                }
                let below = format!("{}/{name}", source.trim_end_matches('/'));
                pending.push((below, destination.join(&name), depth + 1));
            }
        } else if metadata.is_symlink() {
            let target = sftp
                .read_link(&source)
                .await
                .map_err(|err| Error::sftp(format!("read {source}"), err))?;
            let _ = std::fs::remove_file(&destination);
            std::os::unix::fs::symlink(target, &destination).map_err(local)?;
        } else {
            let size = metadata.size.unwrap_or(0);
            let bar = progress::transfer(context.quiet, size, format!("Pulling {source}"));
            if destination.as_os_str() == "-" {
                read_remote(sftp, &source, &mut tokio::io::stdout(), |n| bar.inc(n)).await?;
            } else {
                // Never through a link that an earlier entry of the same tree has made.
                if destination.is_symlink() {
                    std::fs::remove_file(&destination).map_err(local)?;
                }
                let mut file = tokio::fs::File::create(&destination).await.map_err(local)?;
                read_remote(sftp, &source, &mut file, |n| bar.inc(n)).await?;
                let mode = metadata.permissions.unwrap_or(0o644) & 0o777;
                file.set_permissions(PermissionsExt::from_mode(mode))
                    .await
                    .map_err(local)?;
            }
            bar.finish_and_clear();
        }
    }
    Ok(())
}

async fn read_remote<W>(sftp: &SftpSession, path: &str, output: &mut W, progress: impl Fn(u64)) -> Result<()>
where
    W: tokio::io::AsyncWrite + Unpin,
{
    let action = format!("read {path}");
    let mut remote = sftp.open(path).await.map_err(|err| Error::sftp(&action, err))?;
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = remote
            .read(&mut buffer)
            .await
            .map_err(|err| Error::io(&action, err))?;
        if read == 0 {
            break;
        }
        output
            .write_all(&buffer[..read])
            .await
            .map_err(|err| Error::io("write what was pulled", err))?;
        progress(read as u64);
    }
    output
        .flush()
        .await
        .map_err(|err| Error::io("write what was pulled", err))
}
