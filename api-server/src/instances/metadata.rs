//! What an instance's image says about itself (`metadata.yaml`), and its templates, as the instance keeps them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use images::Metadata;

use super::image_volume;
use super::record::InstanceRecord;
use crate::{ApiError, Daemon};

/// The file with the metadata.
const FILE: &str = "metadata.yaml";
/// A template is a small text; a larger one is a mistake.
const MAX_TEMPLATE: usize = 1 << 20;

/// Where an instance keeps metadata and templates: a container in its own volume, a virtual machine in its image's.
fn folder(daemon: &Arc<Daemon>, record: &InstanceRecord) -> Result<PathBuf, ApiError> {
    let pool = daemon.pools.get(&record.pool)?;
    if !record.is_vm() {
        return Ok(pool.path(&record.volume()));
    }
    let image = record.volatile("base_image").unwrap_or_default();
    let id = image_volume::tree_id(image);
    if image.is_empty() || !pool.exists(&id) {
        return Err(ApiError::not_found("Metadata"));
    }
    Ok(pool.path(&id))
}

/// The metadata; empty for an instance that was made of nothing.
pub(super) fn read(daemon: &Arc<Daemon>, record: &InstanceRecord) -> Result<Metadata, ApiError> {
    match std::fs::read(folder(daemon, record)?.join(FILE)) {
        Ok(text) => serde_norway::from_slice(&text)
            .map_err(|error| ApiError::internal(format!("Could not parse {FILE}: {error}"))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Metadata::default()),
        Err(error) => Err(error.into()),
    }
}

/// Replaces the metadata.
pub(super) fn write(
    daemon: &Arc<Daemon>,
    record: &InstanceRecord,
    metadata: &Metadata,
) -> Result<(), ApiError> {
    if record.is_vm() {
        return Err(ApiError::bad_request(
            "Metadata of virtual machines belongs to their image and cannot be changed",
        ));
    }
    let text = serde_norway::to_string(metadata).map_err(|error| ApiError::internal(error.to_string()))?;
    replace(&folder(daemon, record)?, FILE, text.as_bytes())
}

fn replace(folder: &Path, name: &str, content: &[u8]) -> Result<(), ApiError> {
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    std::io::Write::write_all(&mut file, content)?;
    file.persist(folder.join(name)).map_err(|error| error.error)?;
    Ok(())
}

/// A template's file name is one plain component.
fn check_name(name: &str) -> Result<(), ApiError> {
    let fine = !name.is_empty()
        && name.len() <= 200
        && !name.starts_with('.')
        && !name.contains('/')
        && !name.chars().any(char::is_control);
    if fine {
        Ok(())
    } else {
        Err(ApiError::bad_request(format!(
            "Invalid template filename {name:?}"
        )))
    }
}

/// Names of all templates.
pub(super) fn templates(daemon: &Arc<Daemon>, record: &InstanceRecord) -> Result<Vec<String>, ApiError> {
    let mut names = Vec::new();
    match std::fs::read_dir(folder(daemon, record)?.join("templates")) {
        Ok(entries) => {
            for entry in entries {
                let entry = entry?;
                if entry.file_type()?.is_file() {
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

/// A template's text and when it was changed.
pub(super) fn read_template(
    daemon: &Arc<Daemon>,
    record: &InstanceRecord,
    name: &str,
) -> Result<(Vec<u8>, std::time::SystemTime), ApiError> {
    check_name(name)?;
    let path = folder(daemon, record)?.join("templates").join(name);
    let metadata = std::fs::symlink_metadata(&path).map_err(|_| ApiError::not_found("Template"))?;
    // The images room refuses links, but the file may be the container's own work after a copy.
    if !metadata.is_file() {
        return Err(ApiError::not_found("Template"));
    }
    Ok((std::fs::read(&path)?, metadata.modified()?))
}

/// Writes a template.
pub(super) fn write_template(
    daemon: &Arc<Daemon>,
    record: &InstanceRecord,
    name: &str,
    text: &[u8],
) -> Result<(), ApiError> {
    check_name(name)?;
    if record.is_vm() {
        return Err(ApiError::bad_request(
            "Templates of virtual machines belong to their image and cannot be changed",
        ));
    }
    if text.len() > MAX_TEMPLATE {
        return Err(ApiError::bad_request(format!(
            "A template has at most {MAX_TEMPLATE} bytes"
        )));
    }
    let folder = folder(daemon, record)?.join("templates");
    std::fs::create_dir_all(&folder)?;
    replace(&folder, name, text)
}

/// Removes a template.
pub(super) fn remove_template(
    daemon: &Arc<Daemon>,
    record: &InstanceRecord,
    name: &str,
) -> Result<(), ApiError> {
    check_name(name)?;
    if record.is_vm() {
        return Err(ApiError::bad_request(
            "Templates of virtual machines belong to their image and cannot be changed",
        ));
    }
    match std::fs::remove_file(folder(daemon, record)?.join("templates").join(name)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(ApiError::not_found("Template")),
        other => Ok(other?),
    }
}
