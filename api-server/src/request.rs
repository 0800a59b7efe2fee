//! What handlers take out of requests: who asks, in which project, with which document and conditions.

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::response::IntoResponse;
use bytes::Bytes;
use http::{HeaderMap, header, request::Parts};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use std::sync::Arc;

use crate::store::{Document, Revision};
use crate::{ApiError, Daemon, projects};

/// Largest JSON document a request may carry. Incus has no limit; nothing it sends comes near this.
const MAX_DOCUMENT: usize = 16 * 1024 * 1024;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requestor {
    /// User name, or `uid=N` where the host has no name for it.
    pub username: String,
    /// `unix`.
    pub protocol: &'static str,
    /// `@`: clients' unix sockets have no name.
    pub address: String,
}

impl Requestor {
    /// As events tell it.
    pub fn to_api(&self) -> api::EventRequestor {
        api::EventRequestor {
            username: self.username.clone(),
            protocol: self.protocol.to_owned(),
            address: self.address.clone(),
        }
    }

    /// The daemon itself.
    pub fn daemon() -> Self {
        Self {
            username: "root".to_owned(),
            protocol: "unix",
            address: "@".to_owned(),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Requestor {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        Ok(parts
            .extensions
            .get::<Self>()
            .cloned()
            .unwrap_or_else(Self::daemon))
    }
}

/// The project a request is about: `?project=`, which must exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project(pub String);

impl std::ops::Deref for Project {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl FromRequestParts<Arc<Daemon>> for Project {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, daemon: &Arc<Daemon>) -> Result<Self, ApiError> {
        let name = query_value(parts, "project")
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| api::DEFAULT_PROJECT.to_owned());
        projects::check_exists(&*daemon.store, &name)?;
        Ok(Self(name))
    }
}

/// All parameters of a request's query.
#[derive(Debug, Clone, Default)]
pub struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// The first value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The value of a parameter that is not empty.
    pub fn get_non_empty(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// Whether a parameter says yes, in any of the words Incus takes.
    pub fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(crate::config_keys::is_true)
    }

    /// How deep a list goes: 0 names, 1 objects, 2 objects with everything.
    pub fn recursion(&self) -> u8 {
        self.get("recursion")
            .and_then(|value| value.parse().ok())
            .unwrap_or(0)
    }

    /// All parameters in their order.
    pub fn into_pairs(self) -> Vec<(String, String)> {
        self.pairs
    }

    /// Reads a query string.
    pub fn parse(query: &str) -> Self {
        let pairs = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                (percent_decode(key), percent_decode(value))
            })
            .collect();
        Self { pairs }
    }
}

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        Ok(Self::parse(parts.uri.query().unwrap_or_default()))
    }
}

fn query_value(parts: &Parts, name: &str) -> Option<String> {
    Query::parse(parts.uri.query().unwrap_or_default())
        .get(name)
        .map(str::to_owned)
}

/// Decodes `%XX` and `+`. What is not valid stays as it is; what is not UTF-8 is replaced.
pub fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while let Some(&byte) = bytes.get(index) {
        let hex = |offset: usize| bytes.get(index + offset).and_then(|&b| (b as char).to_digit(16));
        match (byte, hex(1), hex(2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                index += 3;
            }
            (b'+', ..) => {
                decoded.push(b' ');
                index += 1;
            }
            _ => {
                decoded.push(byte);
                index += 1;
            }
        }
    }
    String::from_utf8(decoded).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// A JSON document in a request's body, whatever its content type says (clients say various things).
#[derive(Debug, Clone)]
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        let bytes = read_document(request).await?;
        parse_json(&bytes).map(Self)
    }
}

/// The bytes of a request's body, up to the limit of documents.
pub async fn read_document(request: Request) -> Result<Bytes, ApiError> {
    match Limited::new(request.into_body(), MAX_DOCUMENT).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::new(
            http::StatusCode::PAYLOAD_TOO_LARGE,
            format!("Request is larger than {MAX_DOCUMENT} bytes"),
        )),
        Err(error) => Err(ApiError::bad_request(format!(
            "Failed reading the request: {error}"
        ))),
    }
}

/// Parses a document of a request.
pub fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        // Go's decoder says so, and clients print it.
        return Err(ApiError::bad_request("EOF"));
    }
    serde_json::from_slice(bytes).map_err(|error| ApiError::bad_request(format!("Invalid JSON: {error}")))
}

/// The `If-Match` condition of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IfMatch(Option<String>);

impl IfMatch {
    /// Fails with 412 when the document is not the one the client has seen. What it returns is for the write that
    /// follows, so that a change between the two is noticed as well.
    pub fn check(&self, document: &Document) -> Result<Revision, ApiError> {
        if let Some(expected) = &self.0 {
            let actual = document.etag();
            if expected.trim_matches('"') != actual.trim_matches('"') {
                return Err(ApiError::precondition_failed(
                    expected.trim_matches('"'),
                    actual.trim_matches('"'),
                ));
            }
        }
        Ok(Revision::Exact(document.revision()))
    }

    /// Whether the client set a condition.
    pub fn is_set(&self) -> bool {
        self.0.is_some()
    }

    /// Reads the condition from headers. `*` is no condition: the document is there.
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let value = headers
            .get(header::IF_MATCH)
            .and_then(|value| value.to_str().ok());
        Self(
            value
                .filter(|value| !value.is_empty() && *value != "*")
                .map(str::to_owned),
        )
    }
}

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        Ok(Self::from_headers(&parts.headers))
    }
}

/// A websocket upgrade, refused like Incus' websocket library refuses it.
#[derive(Debug)]
pub struct Upgrade(pub axum::extract::ws::WebSocketUpgrade);

impl<S: Send + Sync> FromRequestParts<S> for Upgrade {
    type Rejection = axum::response::Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        axum::extract::ws::WebSocketUpgrade::from_request_parts(parts, state)
            .await
            .map(Self)
            .map_err(|_| (http::StatusCode::BAD_REQUEST, "Bad Request\n").into_response())
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
