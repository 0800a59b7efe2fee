//! Incus' envelopes. Each ends with a newline, because Go's encoder writes one and recorded lengths count it.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::ApiError;
use crate::operations::Operation;

/// What a handler answers.
pub type Reply = Result<Response, ApiError>;

#[derive(Serialize)]
struct Wire<'a, T> {
    #[serde(rename = "type")]
    kind: &'static str,
    status: &'static str,
    status_code: u16,
    operation: &'a str,
    error_code: u16,
    error: &'a str,
    metadata: T,
}

fn envelope<T: Serialize>(status: StatusCode, wire: &Wire<'_, T>) -> Response {
    let mut bytes = Vec::with_capacity(512);
    let (status, bytes) = match serde_json::to_writer(&mut bytes, wire) {
        Ok(()) => {
            bytes.push(b'\n');
            (status, bytes)
        }
        // Cannot happen with our own types, whose keys are texts; an answer is owed all the same.
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("{error}\n").into_bytes(),
        ),
    };
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn success<T: Serialize>(status: StatusCode, metadata: T) -> Response {
    let wire = Wire {
        kind: "sync",
        status: "Success",
        status_code: 200,
        operation: "",
        error_code: 0,
        error: "",
        metadata,
    };
    envelope(status, &wire)
}

fn with_header(mut response: Response, name: HeaderName, value: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
    response
}

/// 200 with a result.
pub fn sync<T: Serialize>(value: T) -> Response {
    success(StatusCode::OK, value)
}

/// 200 with a result and its ETag (see [`crate::store::Document::etag`]).
pub fn sync_etag<T: Serialize>(value: T, etag: &str) -> Response {
    with_header(sync(value), header::ETAG, etag)
}

/// 200 with nothing to say: `{}`.
pub fn empty() -> Response {
    success(StatusCode::OK, serde_json::Map::new())
}

/// 201 with the URL of what was made.
pub fn created(location: &str) -> Response {
    with_header(success(StatusCode::CREATED, ()), header::LOCATION, location)
}

/// 202 with a background operation.
pub fn async_op(operation: &Operation) -> Response {
    let url = operation.url();
    let wire = Wire {
        kind: "async",
        status: "Operation created",
        status_code: 100,
        operation: &url,
        error_code: 0,
        error: "",
        metadata: operation.render(),
    };
    with_header(envelope(StatusCode::ACCEPTED, &wire), header::LOCATION, &url)
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let wire = Wire {
            kind: "error",
            status: "",
            status_code: 0,
            operation: "",
            error_code: self.status.as_u16(),
            error: &self.message,
            metadata: (),
        };
        with_header(
            envelope(self.status, &wire),
            header::X_CONTENT_TYPE_OPTIONS,
            "nosniff",
        )
    }
}
