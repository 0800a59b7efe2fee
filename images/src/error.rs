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
    /// An entry of the archive would escape the destination or is otherwise hostile.
    #[error("image entry {path:?} refused: {reason}")]
    Hostile {
        /// The entry.
        path: PathBuf,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// The image unpacks to more than it may.
    #[error("image exceeds the limit of {limit} {what}")]
    TooLarge {
        /// What is limited: "bytes", "entries".
        what: &'static str,
        /// How many are allowed.
        limit: u64,
    },
    /// The format needs something this host does not have.
    #[error("{0}")]
    Unsupported(String),
    /// The caller raised the cancellation flag.
    #[error("cancelled")]
    Cancelled,
    /// The disk is full.
    #[error("no space left while {action} {path:?}")]
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
    /// An operating system call failed, or the archive is damaged.
    #[error("failed {action} {path:?}")]
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
    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        let (path, source) = (path.as_ref().to_path_buf(), source.into());
        match source.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => Self::NoSpace { action, path },
            _ => Self::Io { action, path, source },
        }
    }
}
