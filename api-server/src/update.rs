//! Changes of resources: a document that takes the place of the resource's own (PUT), or of parts of it (PATCH).

use axum::extract::{FromRequest, Request};
use http::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::ApiError;
use crate::request::{parse_json, read_document};

/// The document of a PUT or PATCH, which the same handler takes.
#[derive(Debug, Clone)]
pub struct Update {
    partial: bool,
    document: Value,
}

impl Update {
    /// What the resource shall be, where `current` is what it is. A PATCH leaves what it does not name as it is, also within
    /// maps such as `config` and `devices`.
    pub fn over<T: DeserializeOwned>(self, current: &impl Serialize) -> Result<T, ApiError> {
        // Read as a structure, a list would be one of defaults.
        let Value::Object(document) = self.document else {
            return Err(ApiError::bad_request(
                "Invalid JSON: the document is not an object",
            ));
        };
        let document = match (self.partial, serde_json::to_value(current)?) {
            (true, Value::Object(current)) => merged(current, document),
            _ => document,
        };
        serde_json::from_value(Value::Object(document))
            .map_err(|error| ApiError::bad_request(format!("Invalid JSON: {error}")))
    }
}

/// Fields that are null name nothing: Go writes its empty maps and lists so.
fn merged(mut document: Map<String, Value>, changes: Map<String, Value>) -> Map<String, Value> {
    for (name, change) in changes {
        match (document.get_mut(&name), change) {
            (_, Value::Null) => {}
            (Some(Value::Object(map)), Value::Object(entries)) => map.extend(entries),
            (_, change) => drop(document.insert(name, change)),
        }
    }
    document
}

impl<S: Sync> FromRequest<S> for Update {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        let partial = request.method() == Method::PATCH;
        let document = parse_json(&read_document(request).await?)?;
        Ok(Self { partial, document })
    }
}

#[cfg(test)]
#[path = "update_tests.rs"]
mod tests;
