//! Log files of an instance: its console, its supervisor's messages, recorded output of commands.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use super::record::InstanceRecord;
use crate::{ApiError, Daemon};

/// Where recorded output lies below the log directory.
pub(super) const EXEC_OUTPUT: &str = "exec-output";
/// The supervisor's log on disk.
const SUPERVISOR_LOG: &str = "virga.log";
/// Names under which Incus' clients ask for the supervisor's log.
const ALIASES: [&str; 2] = ["lxc.log", "qemu.log"];

/// A file's name is one plain component.
fn check_name(name: &str) -> Result<(), ApiError> {
    let fine = !name.is_empty()
        && !name.starts_with('.')
        && !name.contains('/')
        && !name.chars().any(char::is_control);
    if fine {
        Ok(())
    } else {
        Err(ApiError::bad_request(format!("Log file name {name:?} not valid")))
    }
}

/// Where a log file lies.
fn path(
    daemon: &Arc<Daemon>,
    record: &InstanceRecord,
    folder: Option<&str>,
    name: &str,
) -> Result<PathBuf, ApiError> {
    check_name(name)?;
    let name = if folder.is_none() && ALIASES.contains(&name) {
        SUPERVISOR_LOG
    } else {
        name
    };
    let directory = daemon.instances.log_dir(record);
    Ok(match folder {
        Some(folder) => directory.join(folder).join(name),
        None => directory.join(name),
    })
}

/// Names of all log files, or of those in a folder.
pub(super) fn list(
    daemon: &Arc<Daemon>,
    record: &InstanceRecord,
    folder: Option<&str>,
) -> Result<Vec<String>, ApiError> {
    let directory = daemon.instances.log_dir(record);
    let directory = folder.map_or(directory.clone(), |folder| directory.join(folder));
    let mut names = Vec::new();
    match std::fs::read_dir(directory) {
        Ok(entries) => {
            for entry in entries.flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_file()) {
                    names.push(entry.file_name().to_string_lossy().into_owned());
                }
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    names.sort();
    Ok(names)
}

/// A log file and when it was changed. They are bounded, so they are read at once.
pub(super) fn read(
    daemon: &Arc<Daemon>,
    record: &InstanceRecord,
    folder: Option<&str>,
    name: &str,
) -> Result<(Vec<u8>, SystemTime), ApiError> {
    let path = path(daemon, record, folder, name)?;
    match std::fs::read(&path) {
        Ok(text) => Ok((text, std::fs::metadata(&path)?.modified()?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(ApiError::not_found("Log file")),
        Err(error) => Err(error.into()),
    }
}

/// Removes a log file; the one that the supervisor has open is emptied instead.
pub(super) fn remove(
    daemon: &Arc<Daemon>,
    record: &InstanceRecord,
    folder: Option<&str>,
    name: &str,
) -> Result<(), ApiError> {
    let path = path(daemon, record, folder, name)?;
    if !path.is_file() {
        return Err(ApiError::not_found("Log file"));
    }
    if folder.is_none() {
        std::fs::OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(path)?;
    } else {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

/// What the console has said: what was rotated away, and what came since.
pub(super) fn console(
    daemon: &Arc<Daemon>,
    record: &InstanceRecord,
) -> Result<(Vec<u8>, SystemTime), ApiError> {
    let directory = daemon.instances.log_dir(record);
    let mut text = std::fs::read(directory.join("console.log.old")).unwrap_or_default();
    let current = directory.join("console.log");
    text.extend(std::fs::read(&current).unwrap_or_default());
    let changed = std::fs::metadata(&current)
        .and_then(|metadata| metadata.modified())
        .unwrap_or(SystemTime::UNIX_EPOCH);
    Ok((text, changed))
}

/// Forgets what the console has said.
pub(super) fn clear_console(daemon: &Arc<Daemon>, record: &InstanceRecord) -> Result<(), ApiError> {
    let directory = daemon.instances.log_dir(record);
    let _ = std::fs::remove_file(directory.join("console.log.old"));
    let current = directory.join("console.log");
    if current.exists() {
        std::fs::OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(current)?;
    }
    Ok(())
}
