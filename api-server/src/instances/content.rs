//! Where the content of an instance comes from: an image, another instance, nothing.

use std::sync::Arc;

use api::{Image, InstanceSource};

use super::record::{self, InstanceRecord, Phase, SnapshotRecord};
use crate::microvm_images;
use crate::projects::{self, Feature};
use crate::store::{self, keys};
use crate::{ApiError, Daemon};

/// Where the content of a new instance comes from, found and checked.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// An image.
    Image(Box<Image>),
    /// Nothing.
    Empty,
    /// Another instance.
    Copy {
        /// The instance.
        source: Box<InstanceRecord>,
        /// One of its snapshots.
        snapshot: Option<String>,
        /// Its snapshots, which come along.
        history: Vec<SnapshotRecord>,
    },
}

/// Finds what a request names.
pub(super) fn find(
    daemon: &Arc<Daemon>,
    project: &str,
    source: &InstanceSource,
) -> Result<Content, ApiError> {
    match source.kind.as_str() {
        "none" => Ok(Content::Empty),
        "image" => {
            if !source.server.is_empty() {
                return Err(ApiError::bad_request(
                    "Images of other servers are not supported yet: import the image first",
                ));
            }
            find_image(daemon, project, source).map(|image| Content::Image(Box::new(image)))
        }
        "copy" => find_copy(daemon, project, source),
        "migration" => Err(ApiError::bad_request(
            "Migration between servers is not supported",
        )),
        other => Err(ApiError::bad_request(format!("Unknown source type {other:?}"))),
    }
}

/// The image that a source names, by fingerprint (or its start), alias or properties.
pub(super) fn find_image(
    daemon: &Arc<Daemon>,
    project: &str,
    source: &InstanceSource,
) -> Result<Image, ApiError> {
    let project = projects::effective(&*daemon.store, project, Feature::Images)?;
    let fingerprint = if !source.fingerprint.is_empty() {
        source.fingerprint.clone()
    } else if !source.alias.is_empty() {
        let key = keys::alias(&project, &source.alias);
        match store::get_as::<api::ImageAliasesEntry>(&*daemon.store, &key)? {
            Some((entry, _)) => entry.target,
            None => {
                microvm_images::alias(&*daemon.store, &project, &source.alias)?
                    .ok_or_else(|| ApiError::not_found("Image alias"))?
                    .target
            }
        }
    } else {
        return Err(ApiError::bad_request(
            "Must specify one of alias, fingerprint or properties for init from image",
        ));
    };
    if let Some((image, _)) = store::get_as::<Image>(&*daemon.store, &keys::image(&project, &fingerprint))? {
        return Ok(image);
    }
    if let Some(image) = microvm_images::find(&*daemon.store, &project, &fingerprint)? {
        return Ok(image);
    }
    let is_prefix = fingerprint.len() >= 4 && fingerprint.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut found: Vec<(Image, _)> = match is_prefix {
        true => store::list_as(&*daemon.store, &keys::image(&project, &fingerprint))?,
        false => Vec::new(),
    };
    match (found.pop(), found.is_empty()) {
        (Some((image, _)), true) => Ok(image),
        (Some(_), false) => Err(ApiError::bad_request("More than one image matches")),
        (None, _) => Err(ApiError::not_found("Image")),
    }
}

fn find_copy(daemon: &Arc<Daemon>, project: &str, source: &InstanceSource) -> Result<Content, ApiError> {
    if source.source.is_empty() {
        return Err(ApiError::bad_request("Must specify a source instance"));
    }
    let project = if source.project.is_empty() {
        project
    } else {
        &source.project
    };
    let (name, snapshot) = match source.source.split_once('/') {
        Some((name, snapshot)) => (name, Some(snapshot.to_owned())),
        None => (source.source.as_str(), None),
    };
    let (mut found, _) = record::load(&*daemon.store, project, name)?;
    if found.phase != Phase::Ready {
        return Err(ApiError::bad_request(format!(
            "Instance {name:?} is not complete"
        )));
    }
    let mut history = Vec::new();
    match &snapshot {
        Some(snapshot) => {
            let (then, _) = record::load_snapshot(&*daemon.store, project, name, snapshot)?;
            found.config = then.config;
            found.devices = then.devices;
            found.profiles = then.profiles;
        }
        None if !source.instance_only => history = record::snapshots(&*daemon.store, project, name)?,
        None => {}
    }
    Ok(Content::Copy {
        source: Box::new(found),
        snapshot,
        history,
    })
}
