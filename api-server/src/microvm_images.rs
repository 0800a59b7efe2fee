//! Container images as clients see them when they want a microVM.
//!
//! Incus' client makes a virtual machine only of an image whose type is
//! `virtual-machine`, and asks for the image without saying what it is for. So
//! each container image can also be asked for by another name: its alias with
//! `/vm` behind it leads to a fingerprint of its own, under which the same image is
//! of type `virtual-machine`. Neither is stored or listed; both follow the image.

use api::{Image, ImageAliasesEntry};
use sha2::{Digest, Sha256};

use crate::ApiError;
use crate::store::{Store, get_as, keys, list_as};

/// What is put behind an alias.
const SUFFIX: &str = "/vm";

/// The fingerprint under which the container image `fingerprint` is a microVM's.
pub fn fingerprint_of(fingerprint: &str) -> String {
    let hash = Sha256::digest(format!("microvm of image {fingerprint}"));
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The alias `ALIAS/vm`, when `ALIAS` is that of a container image.
pub fn alias(store: &dyn Store, project: &str, name: &str) -> Result<Option<ImageAliasesEntry>, ApiError> {
    let Some(base) = name.strip_suffix(SUFFIX) else {
        return Ok(None);
    };
    let Some((mut entry, _)) = get_as::<ImageAliasesEntry>(store, &keys::alias(project, base))? else {
        return Ok(None);
    };
    let image = get_as::<Image>(store, &keys::image(project, &entry.target))?;
    if !image.is_some_and(|(image, _)| is_container(&image)) {
        return Ok(None);
    }
    entry.target = fingerprint_of(&entry.target);
    name.clone_into(&mut entry.name);
    "virtual-machine".clone_into(&mut entry.kind);
    Ok(Some(entry))
}

/// The container image that `fingerprint` shows as a microVM's, with its own fingerprint and the other type.
pub fn find(store: &dyn Store, project: &str, fingerprint: &str) -> Result<Option<Image>, ApiError> {
    if fingerprint.len() != 64 {
        return Ok(None);
    }
    let images = list_as::<Image>(store, &keys::images(project))?;
    let found = images
        .into_iter()
        .map(|(image, _)| image)
        .find(|image| is_container(image) && fingerprint_of(&image.fingerprint) == fingerprint);
    Ok(found.map(|mut image| {
        "virtual-machine".clone_into(&mut image.kind);
        image
    }))
}

fn is_container(image: &Image) -> bool {
    image.kind != "virtual-machine"
}

#[cfg(test)]
#[path = "microvm_images_tests.rs"]
mod tests;
