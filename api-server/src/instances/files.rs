//! Files of an instance, over its agent's SFTP service.

use std::sync::Arc;

use russh_sftp::client::SftpSession;
use russh_sftp::client::error::Error as SftpError;
use russh_sftp::protocol::{FileAttributes, FileType, OpenFlags, StatusCode};
use tokio::net::UnixStream;

use super::manager::blocking;
use super::record::InstanceRecord;
use super::{agent, offline};
use crate::{ApiError, Daemon};

/// A stream that speaks SFTP with the inside of an instance. A container need not run for that.
pub(super) async fn sftp(daemon: &Arc<Daemon>, record: &InstanceRecord) -> Result<UnixStream, ApiError> {
    if let Some(running) = daemon.instances.running(&record.project, &record.name) {
        if running.is_frozen() {
            return Err(ApiError::bad_request("Instance is frozen"));
        }
        let stream = agent::connect_patiently(daemon, &running).await?;
        return guest_agent::client::sftp(stream)
            .await
            .map_err(|error| agent::failed(&error));
    }
    if record.is_vm() {
        return Err(ApiError::bad_request("Instance is not running"));
    }
    let root = daemon
        .pools
        .get(&record.pool)?
        .path(&record.volume())
        .join("rootfs");
    let stream = blocking(move || offline::serve(&root)).await?;
    stream.set_nonblocking(true)?;
    guest_agent::client::sftp(UnixStream::from_std(stream)?)
        .await
        .map_err(|error| agent::failed(&error))
}

/// An SFTP session with the inside of an instance.
pub(super) async fn session(daemon: &Arc<Daemon>, record: &InstanceRecord) -> Result<SftpSession, ApiError> {
    let stream = sftp(daemon, record).await?;
    SftpSession::new(stream)
        .await
        .map_err(|error| ApiError::internal(format!("sftp session failed: {error}")))
}

/// An error of an SFTP request, as an answer of the API.
pub(super) fn failed(error: &SftpError) -> ApiError {
    match error {
        SftpError::Status(status) => match status.status_code {
            StatusCode::NoSuchFile => ApiError::not_found("File"),
            StatusCode::PermissionDenied => ApiError::forbidden(status.error_message.clone()),
            _ => ApiError::internal(status.error_message.clone()),
        },
        other => ApiError::internal(other.to_string()),
    }
}

/// What a path is, in the API's words.
pub(super) fn kind(attributes: &FileAttributes) -> &'static str {
    match attributes.file_type() {
        FileType::Dir => "directory",
        FileType::Symlink => "symlink",
        _ => "file",
    }
}

/// What a client wants written.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// `file`, `directory` or `symlink`.
    pub kind: String,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Permission bits.
    pub mode: Option<u32>,
    /// Add to the end instead of replacing.
    pub append: bool,
}

/// Gives a path owner and permissions.
pub(super) async fn set_attributes(
    session: &SftpSession,
    path: &str,
    wanted: &Wanted,
) -> Result<(), ApiError> {
    if wanted.uid.is_none() && wanted.gid.is_none() && wanted.mode.is_none() {
        return Ok(());
    }
    let now = session.metadata(path).await.map_err(|error| failed(&error))?;
    let mut attributes = FileAttributes::empty();
    // SFTP changes both ids or none.
    if wanted.uid.is_some() || wanted.gid.is_some() {
        attributes.uid = wanted.uid.or(now.uid);
        attributes.gid = wanted.gid.or(now.gid);
    }
    attributes.permissions = wanted.mode;
    session
        .set_metadata(path, attributes)
        .await
        .map_err(|error| failed(&error))
}

/// How a file is opened to be written.
pub(super) fn write_flags(append: bool) -> OpenFlags {
    let mode = if append {
        OpenFlags::APPEND
    } else {
        OpenFlags::TRUNCATE
    };
    OpenFlags::WRITE | OpenFlags::CREATE | mode
}
