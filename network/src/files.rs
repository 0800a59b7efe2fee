//! Files that are there whole or not at all.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::{Error, Result};

/// Writes a file by way of a temporary one beside it. The temporary name starts with a dot, which dnsmasq
/// skips when it watches the folder.
pub(crate) fn replace(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let temporary = path.with_file_name(format!(".{name}.new"));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&temporary)
        .map_err(Error::io("create", &temporary))?;
    file.write_all(content).map_err(Error::io("write", &temporary))?;
    // The mode given to open is cut by the umask.
    file.set_permissions(Permissions::from_mode(mode))
        .map_err(Error::io("set the mode of", &temporary))?;
    drop(file);
    fs::rename(&temporary, path).map_err(Error::io("replace", path))
}

/// Removes a file; one that is gone already is no error. Tells whether it was there.
pub(crate) fn remove(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("remove", path)(error)),
    }
}

/// Makes a folder with exactly this mode, or gives an existing one that mode.
pub(crate) fn folder(path: &Path, mode: u32) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(Error::io("create", path))?;
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(Error::io("set the mode of", path))
}

/// The names in a folder, sorted; a folder that is missing is empty. Names that are not text, and those of
/// unfinished temporary files, are left out.
pub(crate) fn names(path: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("list", path)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Error::io("list", path))?;
        if let Ok(name) = entry.file_name().into_string()
            && !(name.starts_with('.') && name.ends_with(".new"))
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
