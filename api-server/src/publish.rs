//! Making an image of an instance or of one of its snapshots: the instance packs itself, the file is imported.

use std::sync::Arc;

use api::Map;
use images::Compression;
use tempfile::TempPath;

use crate::image_files::{Wishes, new_upload};
use crate::instances::publish::{Publication, publish};
use crate::store::{get_as, keys};
use crate::{ApiError, Daemon};

/// Packs an instance (`c1`) or a snapshot (`c1/snap0`) into a temporary file.
pub async fn pack(
    daemon: &Arc<Daemon>,
    project: &str,
    source: &str,
    compression: &str,
    wishes: &Wishes,
) -> Result<TempPath, ApiError> {
    let publication = Publication {
        project: project.to_owned(),
        source: source.to_owned(),
        properties: wishes.properties.clone(),
        expiry_date: if wishes.expires_at.is_never() {
            0
        } else {
            wishes.expires_at.as_unix()
        },
        compression: compression_of(daemon, compression)?,
    };
    let (_, out) = new_upload(daemon)?;
    publish(daemon, publication, out.to_path_buf()).await?;
    Ok(out)
}

/// What the client asks for, or else the server's `images.compression_algorithm`.
fn compression_of(daemon: &Daemon, wanted: &str) -> Result<Option<Compression>, ApiError> {
    let config = get_as::<Map>(&*daemon.store, keys::SERVER_CONFIG)?
        .map(|(config, _)| config)
        .unwrap_or_default();
    let configured = config
        .get("images.compression_algorithm")
        .map(String::as_str)
        .unwrap_or_default();
    match [wanted, configured].into_iter().find(|name| !name.is_empty()) {
        None => Ok(None),
        Some(name) => Compression::by_name(name).map(Some).ok_or_else(|| {
            ApiError::bad_request(format!(
                "Unknown compression algorithm {name:?}: use none, gzip, xz or zstd"
            ))
        }),
    }
}
