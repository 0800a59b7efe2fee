//! `KEY=VALUE` arguments.

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// Splits one `KEY=VALUE`.
pub(super) fn split(text: &str) -> Result<(&str, &str)> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key, value)),
        _ => Err(Error::Usage(format!("'{text}' is not of the form KEY=VALUE"))),
    }
}

/// An object of `KEY=VALUE` arguments; a later one wins.
pub(super) fn object(arguments: &[String]) -> Result<Map<String, Value>> {
    arguments
        .iter()
        .map(|text| split(text).map(|(key, value)| (key.to_owned(), value.into())))
        .collect()
}

#[cfg(test)]
#[path = "key_values_tests.rs"]
mod tests;
