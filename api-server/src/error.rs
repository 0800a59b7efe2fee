//! [`ApiError`]: what a request answers when it does not work. Errors of the rooms next door are turned into HTTP
//! statuses here and nowhere else.

use std::fmt;

use http::StatusCode;

/// An HTTP status and the message that goes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// The HTTP status.
    pub status: StatusCode,
    /// What went wrong, as Incus words it where Incus has it.
    pub message: String,
}

impl ApiError {
    /// An error with any status.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    /// 404 `Instance not found`, for `what` = `Instance`.
    pub fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("{what} not found"))
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 403.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    /// 409.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    /// 412, in Incus' words.
    pub fn precondition_failed(expected: &str, actual: &str) -> Self {
        Self::new(
            StatusCode::PRECONDITION_FAILED,
            format!("ETag doesn't match: {expected} vs {actual}"),
        )
    }

    /// 500.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// 501.
    pub fn not_implemented(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, message)
    }

    /// 503.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }

    /// The same error with what was being done in front of it, as Incus wraps its errors.
    #[must_use]
    pub fn context(mut self, doing: impl fmt::Display) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }

    /// Whether something is not there.
    pub fn is_not_found(&self) -> bool {
        self.status == StatusCode::NOT_FOUND
    }

    /// Any error of ours with its causes, as a 500.
    pub fn from_error(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::internal(chain(error))
    }
}

/// An error and its causes in one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        // Many errors already contain their cause's text.
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}

impl From<crate::store::StoreError> for ApiError {
    fn from(error: crate::store::StoreError) -> Self {
        use crate::store::StoreError;
        match &error {
            StoreError::Conflict { .. } => Self::new(StatusCode::PRECONDITION_FAILED, error.to_string()),
            _ => Self::from_error(&error),
        }
    }
}

impl From<std::io::Error> for ApiError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, error.to_string())
            }
            _ => Self::from_error(&error),
        }
    }
}

impl From<serde_json::Error> for ApiError {
    fn from(error: serde_json::Error) -> Self {
        Self::internal(format!("invalid document: {error}"))
    }
}

impl From<tokio::task::JoinError> for ApiError {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::internal(format!("background work ended early: {error}"))
    }
}

impl From<storage::Error> for ApiError {
    fn from(error: storage::Error) -> Self {
        use storage::Error;
        let message = chain(&error);
        match error {
            Error::VolumeNotFound(_) | Error::SnapshotNotFound { .. } => {
                Self::new(StatusCode::NOT_FOUND, message)
            }
            Error::VolumeExists(_) | Error::SnapshotExists { .. } => Self::conflict(message),
            Error::InvalidName { .. }
            | Error::InvalidConfig(_)
            | Error::UnknownDriver(_)
            | Error::SourceNotEmpty(_)
            | Error::PoolInUse { .. }
            | Error::ContentMismatch { .. }
            | Error::Shrink { .. } => Self::bad_request(message),
            Error::PoolMissing { .. } => Self::unavailable(message),
            Error::NoSpace { .. } => Self::new(StatusCode::INSUFFICIENT_STORAGE, message),
            _ => Self::internal(message),
        }
    }
}

impl From<network::Error> for ApiError {
    fn from(error: network::Error) -> Self {
        use network::Error;
        let message = chain(&error);
        match error {
            Error::InvalidName { .. }
            | Error::UnknownKey { .. }
            | Error::InvalidValue { .. }
            | Error::AddressRefused { .. } => Self::bad_request(message),
            Error::NameTaken { .. } | Error::AddressInUse { .. } | Error::Exhausted { .. } => {
                Self::conflict(message)
            }
            Error::NotFound { .. } => Self::not_found("Network"),
            _ => Self::internal(message),
        }
    }
}

impl From<images::Error> for ApiError {
    fn from(error: images::Error) -> Self {
        use images::Error;
        let message = chain(&error);
        match error {
            Error::NoSpace { .. } => Self::new(StatusCode::INSUFFICIENT_STORAGE, message),
            Error::Io { .. } | Error::Tool { .. } => Self::internal(message),
            _ => Self::bad_request(message),
        }
    }
}
