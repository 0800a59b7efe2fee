//! Templates of images: files that are filled in when a container is made, copied, renamed or started.
//!
//! Images use them for little: the host name, a few addresses, a configuration key. So of Incus' template language (pongo2) the
//! expressions are understood, not the statements; a template with statements is left alone and said so.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::Arc;

use images::Template;

use super::expand::Expanded;
use super::metadata;
use super::record::InstanceRecord;
use crate::{ApiError, Daemon};

/// The occasion of every start.
const START: &str = "start";

/// Fills in the templates of a container that is about to start. `occasion` is what has happened to it since its last start:
/// `create`, `copy` or `rename`.
pub(super) fn apply(
    daemon: &Arc<Daemon>,
    record: &InstanceRecord,
    config: &Expanded,
    root: &Path,
    occasion: Option<&str>,
) -> Result<(), ApiError> {
    let metadata = metadata::read(daemon, record)?;
    for (path, template) in &metadata.templates {
        let is_due = template
            .when
            .iter()
            .any(|when| when == START || Some(when.as_str()) == occasion);
        if !is_due {
            continue;
        }
        let (text, _) = metadata::read_template(daemon, record, &template.template)?;
        let filled = String::from_utf8(text)
            .ok()
            .and_then(|text| render(&text, record, config, template));
        let Some(filled) = filled else {
            tracing::warn!(
                instance = record.name,
                template = template.template,
                "template is not understood and left alone"
            );
            continue;
        };
        match write_inside(root, path, filled.as_bytes(), template.create_only) {
            Ok(()) => {}
            Err(error) => {
                tracing::warn!(instance = record.name, path, %error, "template could not be written")
            }
        }
    }
    Ok(())
}

/// Fills in the expressions of a template; `None` when there is something else in it.
fn render(text: &str, record: &InstanceRecord, config: &Expanded, template: &Template) -> Option<String> {
    if text.contains("{%") {
        return None;
    }
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (expression, after) = after.split_once("}}")?;
        filled.push_str(before);
        filled.push_str(&value(expression.trim(), record, config, template)?);
        rest = after;
    }
    filled.push_str(rest);
    Some(filled)
}

fn value(
    expression: &str,
    record: &InstanceRecord,
    config: &Expanded,
    template: &Template,
) -> Option<String> {
    if let Some(arguments) = expression
        .strip_prefix("config_get(")
        .and_then(|rest| rest.strip_suffix(')'))
    {
        let mut words = arguments
            .splitn(2, ',')
            .map(|word| word.trim().trim_matches(['"', '\'']));
        let (key, default) = (words.next()?, words.next().unwrap_or_default());
        let found = config.get(key);
        return Some(if found.is_empty() { default } else { found }.to_owned());
    }
    let (object, field) = expression.split_once('.')?;
    match (object, field) {
        ("container" | "instance", "name") => Some(record.name.clone()),
        ("container" | "instance", "type") => Some(record.kind.as_str().to_owned()),
        ("container" | "instance", "architecture") => Some(record.architecture.clone()),
        ("container" | "instance", "privileged") => Some(config.is_true("security.privileged").to_string()),
        ("container" | "instance", "ephemeral") => Some(record.ephemeral.to_string()),
        ("properties", key) => Some(template.properties.get(key).cloned().unwrap_or_default()),
        _ => None,
    }
}

/// `struct open_how` of openat2(2).
#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

/// Writes a file in a root file system whose links are not trusted: they end inside, and only a regular file is written to.
fn write_inside(root: &Path, path: &str, content: &[u8], create_only: bool) -> io::Result<()> {
    let directory = File::open(root)?;
    let mut flags = libc::O_WRONLY | libc::O_CREAT | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
    if create_only {
        flags |= libc::O_EXCL;
    }
    let how = OpenHow {
        flags: flags as u64,
        mode: 0o644,
        resolve: libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS,
    };
    let path = std::ffi::CString::new(path)?;
    // SAFETY: openat2 reads the path, which ends with zero, and one open_how of the size given; both live across the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_openat2,
            directory.as_raw_fd(),
            path.as_ptr(),
            &raw const how,
            size_of::<OpenHow>(),
        )
    };
    if fd < 0 {
        let error = io::Error::last_os_error();
        return match error.kind() {
            io::ErrorKind::AlreadyExists if create_only => Ok(()),
            _ => Err(error),
        };
    }
    // SAFETY: the kernel has just given us this descriptor, nobody else has it.
    let mut file = File::from(unsafe { OwnedFd::from_raw_fd(fd as RawFd) });
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is there and is no regular file",
        ));
    }
    file.set_len(0)?;
    file.write_all(content)
}

#[cfg(test)]
#[path = "templates_tests.rs"]
mod tests;
