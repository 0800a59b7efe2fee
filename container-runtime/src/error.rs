//! Everything that can go wrong with a container, one variant for each thing a caller can act on.

use std::io;
use std::path::{Path, PathBuf};

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, with the value that was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field of the container's specification cannot be honoured.
    #[error("{field}: {problem}")]
    Spec {
        /// The field, as it is written in the JSON document.
        field: String,
        /// Why it is refused, with the value.
        problem: String,
    },
    /// A JSON document could not be read or is not what it should be.
    #[error("{path}: not a valid document")]
    Document {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
    /// A file operation failed.
    #[error("cannot {action} {path}")]
    File {
        /// What was tried, for example `open`.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A system call failed while the container was made.
    #[error("cannot {action}")]
    System {
        /// What was tried.
        action: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The file system of the root cannot be mounted with shifted ids.
    #[error(
        "the file system of {path} cannot be mounted with shifted user ids ({source}): use a pool on ext4, xfs, btrfs or \
         tmpfs (Linux 5.12 to 6.3 or later), or a privileged container"
    )]
    NoIdmap {
        /// The directory.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The image holds something that a container must not have there.
    #[error("the image's {path} {problem}")]
    Image {
        /// The path inside the container.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The process inside the container reported a failure while it set itself up.
    #[error("container set-up failed: {0}")]
    Child(String),
    /// The control socket of the monitor does not answer.
    #[error("no monitor answers in {path}")]
    NoMonitor {
        /// The run directory.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The monitor answered with an error.
    #[error("{message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The monitor's words.
        message: String,
    },
    /// What came over a socket is not the protocol.
    #[error("malformed message: {0}")]
    Protocol(String),
}

impl Error {
    /// A specification field that is refused.
    pub fn spec(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Spec {
            field: field.into(),
            problem: problem.into(),
        }
    }

    /// A failed file operation.
    pub fn file(action: &'static str, path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        Self::File {
            action,
            path: path.as_ref().to_path_buf(),
            source: source.into(),
        }
    }

    /// A failed system call.
    pub fn system(action: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::System {
            action: action.into(),
            source: source.into(),
        }
    }

    /// The error and its causes in one line, for logs and for messages that travel as text.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(inner) = cause {
            let words = inner.to_string();
            if !text.contains(&words) {
                text.push_str(": ");
                text.push_str(&words);
            }
            cause = inner.source();
        }
        text
    }
}
