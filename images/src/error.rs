//! What can be wrong with an image, one variant per thing a caller can act on.

use std::io;
use std::path::{Path, PathBuf};

/// The result of an image operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an image was refused or an operation on it failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file is no image: not an archive, or one without metadata.
    #[error("not a usable image: {0}")]
    Invalid(String),
    /// `metadata.yaml` does not say what it must.
    #[error("invalid metadata.yaml: {0}")]
    Metadata(String),
    /// An entry of the archive would escape the destination or is otherwise hostile or damaged.
    #[error("image entry {path:?} refused: {reason}")]
    Hostile {
        /// The entry.
        path: PathBuf,
        /// Which rule it breaks.
        reason: String,
    },
    /// The image unpacks to more than it may.
    #[error("image exceeds the limit of {limit} {what}")]
    TooLarge {
        /// What is limited: "bytes", "entries".
        what: &'static str,
        /// How many are allowed.
        limit: u64,
    },
    /// A program that does part of the work is not installed.
    #[error("{tool} is not installed; install Debian's package {package}")]
    MissingTool {
        /// The program.
        tool: &'static str,
        /// The package that has it.
        package: &'static str,
    },
    /// The caller raised the cancellation flag.
    #[error("cancelled")]
    Cancelled,
    /// The disk is full.
    #[error("no space left while trying to {action} {path:?}")]
    NoSpace {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
    },
    /// A tool ended with an error.
    #[error("{tool} failed ({status}): {stderr}")]
    Tool {
        /// The program.
        tool: &'static str,
        /// How it ended.
        status: String,
        /// What it said, shortened.
        stderr: String,
    },
    /// An operating system call failed.
    #[error("cannot {action} {path:?}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// Wraps an operating system error, telling a full disk from the rest.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => Self::NoSpace {
                action,
                path: path.clone(),
            },
            _ => Self::Io {
                action,
                path: path.clone(),
                source,
            },
        }
    }

    pub(crate) fn entry(path: &Path, reason: impl Into<String>) -> Self {
        Self::Hostile {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }

    pub(crate) fn invalid(path: &Path, reason: impl std::fmt::Display) -> Self {
        Self::Invalid(format!("{}: {reason}", path.display()))
    }

    pub(crate) fn cannot_run(tool: &'static str, package: &'static str) -> impl Fn(io::Error) -> Self {
        move |err| match err.kind() {
            io::ErrorKind::NotFound => Self::MissingTool { tool, package },
            _ => Self::Tool {
                tool,
                status: "not started".into(),
                stderr: err.to_string(),
            },
        }
    }

    /// True when the image itself is at fault, not this host.
    pub fn is_invalid_image(&self) -> bool {
        matches!(
            self,
            Self::Invalid(_) | Self::Metadata(_) | Self::Hostile { .. } | Self::TooLarge { .. }
        )
    }
}
