//! What can go wrong for the person at the terminal, and the exit code it gets.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

/// Result of a command step.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Nothing answers on the socket.
    #[error(
        "cannot reach the daemon at {path}: {source}; is virgad running? (`virga daemon status`, or name its socket with --socket)"
    )]
    Unreachable {
        /// The socket that was tried.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The daemon answered with an error.
    #[error("{message}")]
    Api {
        /// HTTP status.
        status: u16,
        /// The daemon's words.
        message: String,
    },
    /// The daemon answered with something that is not its API.
    #[error("the daemon's answer to {request} is not understood: {reason}")]
    Protocol {
        /// Method and path.
        request: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// What the user typed has no meaning.
    #[error("{0}")]
    Usage(String),
    /// A local file or terminal failed.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file transfer was refused inside the instance.
    #[error("cannot {action}: {source}")]
    Sftp {
        /// What was tried.
        action: String,
        /// What the other side said.
        source: russh_sftp::client::error::Error,
    },
    /// A measurement could not be made.
    #[error("{0}")]
    Bench(String),
    /// Several things were asked and some failed; each was already printed.
    #[error("{failed} of {total} failed")]
    Some {
        /// How many failed.
        failed: usize,
        /// How many were asked.
        total: usize,
    },
}

impl Error {
    /// An I/O error with what was tried.
    pub(crate) fn io(action: impl Into<String>, source: io::Error) -> Self {
        Error::Io {
            action: action.into(),
            source,
        }
    }

    /// An SFTP error with what was tried.
    pub(crate) fn sftp(action: impl Into<String>, source: russh_sftp::client::error::Error) -> Self {
        Error::Sftp {
            action: action.into(),
            source,
        }
    }

    /// An answer that does not fit the API.
    pub(crate) fn protocol(request: impl Into<String>, reason: impl ToString) -> Self {
        Error::Protocol {
            request: request.into(),
            reason: reason.to_string(),
        }
    }

    /// True when the daemon said that the thing does not exist.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Error::Api { status: 404, .. })
    }

    fn exit_code(&self) -> u8 {
        match self {
            Error::Usage(_) => 2,
            Error::Unreachable { .. } => 3,
            _ => 1,
        }
    }
}

/// Prints the error once and gives its exit code.
pub(crate) fn report(error: &Error) -> ExitCode {
    eprintln!("{} {error}", crate::output::style::error_label());
    ExitCode::from(error.exit_code())
}
