//! What can be wrong with a configuration, and how it is said.

use std::path::PathBuf;

use thiserror::Error;

/// Everything that is wrong with a configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read the configuration {path}: {source}; check that the path is right and readable")]
    Read {
        /// Path as it was given.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The text is not JSON of the expected shape.
    #[error("the configuration is not valid: {source}; see `virga-vmm --help` for a full example")]
    Parse {
        /// Line, column and field as the parser saw them.
        #[from]
        source: serde_json::Error,
    },
    /// A field has a value that cannot be used.
    #[error("configuration field `{field}` is {value}: {problem}")]
    Value {
        /// Field, in the notation of the document: `disks[0].path`.
        field: String,
        /// The value that was asked for.
        value: String,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
}

/// A field with a value that cannot be used.
pub(super) fn refuse(
    field: impl Into<String>,
    value: impl ToString,
    problem: impl Into<String>,
) -> ConfigError {
    ConfigError::Value {
        field: field.into(),
        value: value.to_string(),
        problem: problem.into(),
    }
}
