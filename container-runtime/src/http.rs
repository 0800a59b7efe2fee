//! As much HTTP/1.1 as a control socket needs: one request and one response per connection, JSON bodies, bounded sizes
//! (RFC 9112). curl speaks it: `curl --unix-socket control.sock http://x/state`.

use std::io::{Read, Write};

use crate::{Error, Result};

/// No control message comes near it; a client that sends more is cut off.
const MAX_HEAD: usize = 8 * 1024;
const MAX_BODY: usize = 256 * 1024;
const MAX_HEADERS: usize = 32;

/// A request that has come in completely.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `PUT`, …
    pub method: String,
    /// The path without query.
    pub path: String,
    /// The body; empty when there is none.
    pub body: Vec<u8>,
}

/// Parses what has come in so far; `None` when more is needed.
pub fn parse_request(bytes: &[u8]) -> Result<Option<Request>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let status = request.parse(bytes).map_err(|e| Error::Protocol(e.to_string()))?;
    let httparse::Status::Complete(head) = status else {
        return too_long(bytes.len()).map(|()| None);
    };
    let length = content_length(request.headers)?;
    let Some(body) = bytes.get(head..head + length) else {
        return Ok(None);
    };
    let target = request.path.unwrap_or("/");
    Ok(Some(Request {
        method: request.method.unwrap_or_default().to_owned(),
        path: target.split('?').next().unwrap_or(target).to_owned(),
        body: body.to_vec(),
    }))
}

fn too_long(len: usize) -> Result<()> {
    if len > MAX_HEAD {
        Err(Error::Protocol(format!("head of more than {MAX_HEAD} bytes")))
    } else {
        Ok(())
    }
}

fn content_length(headers: &[httparse::Header<'_>]) -> Result<usize> {
    let mut length = 0;
    for header in headers {
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(Error::Protocol(
                "transfer-encoding is not supported, send content-length".to_owned(),
            ));
        }
        if header.name.eq_ignore_ascii_case("content-length") {
            let text = std::str::from_utf8(header.value).unwrap_or_default().trim();
            length = text
                .parse()
                .map_err(|_| Error::Protocol(format!("content-length {text:?}")))?;
        }
    }
    if length > MAX_BODY {
        Err(Error::Protocol(format!("body of {length} bytes")))
    } else {
        Ok(length)
    }
}

/// A whole response.
pub fn response(status: u16, body: &[u8]) -> Vec<u8> {
    let reason = match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        _ => "Internal Server Error",
    };
    let mut bytes = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// Sends a request and reads the answer: its status and body.
pub fn exchange(
    stream: &mut (impl Read + Write),
    method: &str,
    path: &str,
    body: &[u8],
) -> Result<(u16, Vec<u8>)> {
    let broken = |source| Error::system(format!("talk to the monitor ({method} {path})"), source);
    let mut message = format!(
        "{method} {path} HTTP/1.1\r\nHost: virga\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    message.extend_from_slice(body);
    stream.write_all(&message).map_err(broken)?;
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        if let Some(answer) = parse_response(&bytes)? {
            return Ok(answer);
        }
        match stream.read(&mut chunk).map_err(broken)? {
            0 => {
                return Err(Error::Protocol(
                    "the monitor hung up before its answer was complete".to_owned(),
                ));
            }
            n => bytes.extend_from_slice(&chunk[..n]),
        }
    }
}

fn parse_response(bytes: &[u8]) -> Result<Option<(u16, Vec<u8>)>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = response
        .parse(bytes)
        .map_err(|e| Error::Protocol(e.to_string()))?
    else {
        return too_long(bytes.len()).map(|()| None);
    };
    let length = content_length(response.headers)?;
    let Some(body) = bytes.get(head..head + length) else {
        return Ok(None);
    };
    Ok(Some((response.code.unwrap_or_default(), body.to_vec())))
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
