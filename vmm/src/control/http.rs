//! As much of HTTP/1.1 as the control socket needs: one request per connection, small JSON bodies.
//!
//! The peer is the daemon or a person with `curl`; the limits keep a broken client from growing this process.

use serde_json::{Value, json};

/// The longest request head that is read.
pub const MAX_HEAD_BYTES: usize = 8 << 10;
/// The longest request body that is read.
pub const MAX_BODY_BYTES: usize = 64 << 10;

/// A parsed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Method, as sent.
    pub method: String,
    /// Path, as sent, without the query.
    pub path: String,
    /// What follows the path's `?`; empty when there is none.
    pub query: String,
    /// Body; empty when there is none.
    pub body: Vec<u8>,
}

/// A response to send.
#[derive(Debug, Clone, PartialEq)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// JSON document.
    pub body: Value,
}

impl Response {
    /// 200 with a document.
    #[must_use]
    pub fn ok(body: Value) -> Self {
        Self { status: 200, body }
    }

    /// A refusal: `{"error": message}`.
    #[must_use]
    pub fn error(status: u16, message: impl Into<String>) -> Self {
        Self {
            status,
            body: json!({ "error": message.into() }),
        }
    }

    /// The bytes on the wire.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let reason = match self.status {
            200 => "OK",
            202 => "Accepted",
            400 => "Bad Request",
            404 => "Not Found",
            405 => "Method Not Allowed",
            409 => "Conflict",
            413 => "Content Too Large",
            431 => "Request Header Fields Too Large",
            501 => "Not Implemented",
            503 => "Service Unavailable",
            _ => "Internal Server Error",
        };
        let mut body = self.body.to_string();
        body.push('\n');
        let head = format!(
            "HTTP/1.1 {} {reason}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.status,
            body.len()
        );
        [head.into_bytes(), body.into_bytes()].concat()
    }
}

/// What a buffer of received bytes amounts to.
#[derive(Debug, Clone, PartialEq)]
pub enum Parsed {
    /// More bytes are needed.
    Partial,
    /// A whole request.
    Request(Request),
    /// Something that is answered with this refusal.
    Refused(Response),
}

/// Parses what a client has sent so far.
#[must_use]
pub fn parse(bytes: &[u8]) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Request::new(&mut headers);
    let head_len = match head.parse(bytes) {
        Ok(httparse::Status::Complete(len)) if len <= MAX_HEAD_BYTES => len,
        Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD_BYTES => return Parsed::Partial,
        Ok(_) => {
            let message = format!("the request head is longer than {MAX_HEAD_BYTES} bytes");
            return Parsed::Refused(Response::error(431, message));
        }
        Err(error) => return Parsed::Refused(Response::error(400, format!("not an HTTP request: {error}"))),
    };
    let body_len = match content_length(head.headers) {
        Ok(len) => len,
        Err(refusal) => return Parsed::Refused(refusal),
    };
    let Some(body) = bytes.get(head_len..).and_then(|rest| rest.get(..body_len)) else {
        return Parsed::Partial;
    };
    let target = head.path.unwrap_or("/");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Parsed::Request(Request {
        method: head.method.unwrap_or("GET").to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        body: body.to_vec(),
    })
}

/// The declared body length. Two different lengths, or a transfer coding, could make two readers see two
/// different requests (RFC 9112 §6.3), so both are refused.
fn content_length(headers: &[httparse::Header<'_>]) -> Result<usize, Response> {
    let mut length = None;
    for header in headers {
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(Response::error(
                501,
                "transfer codings are not supported; send a Content-Length",
            ));
        }
        if header.name.eq_ignore_ascii_case("content-length") {
            let text = String::from_utf8_lossy(header.value);
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let value = text.parse::<usize>().ok().filter(|_| digits);
            match (value, length) {
                (Some(value), None) => length = Some(value),
                (Some(value), Some(earlier)) if value == earlier => {}
                _ => {
                    return Err(Response::error(
                        400,
                        format!("content length {text:?} is not one number"),
                    ));
                }
            }
        }
    }
    let length = length.unwrap_or(0);
    if length > MAX_BODY_BYTES {
        return Err(Response::error(
            413,
            format!("the body has {length} bytes, at most {MAX_BODY_BYTES} are read"),
        ));
    }
    Ok(length)
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
