//! The API client: requests over the daemon's unix socket, and what every
//! command needs of the answers. One connection a request: the daemon is local
//! and a connection costs microseconds.

pub(crate) mod operation;
pub(crate) mod upload;
pub(crate) mod websocket;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use crate::error::{Error, Result};

/// What goes out as a request's body.
pub(crate) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// The daemon's default socket.
pub(crate) const DEFAULT_SOCKET: &str = "/var/lib/virga/unix.socket";

/// A daemon that can be asked.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    socket: PathBuf,
    project: Option<String>,
    /// No progress is drawn.
    pub(crate) quiet: bool,
}

/// An answer of type `sync` or `async`.
#[derive(Debug)]
pub(crate) struct Answer {
    /// `metadata` of the envelope.
    pub(crate) metadata: Value,
    /// The entity tag, for a later change.
    pub(crate) etag: Option<String>,
    /// Path of the operation when the answer is asynchronous.
    pub(crate) operation: Option<String>,
}

impl Client {
    /// A client of the daemon on `socket`, asking about `project`.
    pub(crate) fn new(socket: PathBuf, project: Option<String>, quiet: bool) -> Self {
        Self {
            socket,
            project,
            quiet,
        }
    }

    /// The socket's path.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// `path` with the project asked for.
    fn with_project(&self, path: &str) -> String {
        match &self.project {
            Some(project) => {
                let separator = if path.contains('?') { '&' } else { '?' };
                format!("{path}{separator}project={}", escape(project))
            }
            None => path.to_owned(),
        }
    }

    async fn connect(&self) -> Result<UnixStream> {
        let unreachable = |source| Error::Unreachable {
            path: self.socket.clone(),
            source,
        };
        // A path longer than sun_path is reached through its folder's descriptor.
        if self.socket.as_os_str().len() > 107
            && let (Some(folder), Some(name)) = (self.socket.parent(), self.socket.file_name())
        {
            let folder = std::fs::File::open(folder).map_err(unreachable)?;
            let short = format!("/proc/self/fd/{}/", std::os::fd::AsRawFd::as_raw_fd(&folder));
            return UnixStream::connect(Path::new(&short).join(name))
                .await
                .map_err(unreachable);
        }
        UnixStream::connect(&self.socket).await.map_err(unreachable)
    }

    /// Sends a request and gives the raw response.
    pub(crate) async fn send(&self, mut request: Request<Body>) -> Result<Response<Incoming>> {
        let path = self.with_project(&request.uri().to_string());
        let name = format!("{} {path}", request.method());
        *request.uri_mut() = path
            .parse()
            .map_err(|err| Error::Usage(format!("'{path}' is no request path: {err}")))?;
        request
            .headers_mut()
            .insert(header::HOST, header::HeaderValue::from_static("virga"));
        let stream = self.connect().await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|err| Error::protocol(&name, err))?;
        tokio::spawn(connection.with_upgrades());
        sender
            .send_request(request)
            .await
            .map_err(|err| Error::protocol(name, err))
    }

    /// Sends a request and reads the envelope.
    pub(crate) async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        self.call_if_match(method, path, body, None).await
    }

    /// As `call`, to be refused when the entity has changed since `etag`.
    pub(crate) async fn call_if_match(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        etag: Option<&str>,
    ) -> Result<Answer> {
        let mut request = Request::builder().method(method).uri(path);
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(etag) = etag {
            request = request.header(header::IF_MATCH, etag);
        }
        let body = match body {
            Some(value) => full(value.to_string()),
            None => empty(),
        };
        self.call_request(build(request, body)?).await
    }

    /// Sends a ready request and reads the envelope.
    pub(crate) async fn call_request(&self, request: Request<Body>) -> Result<Answer> {
        let name = format!("{} {}", request.method(), request.uri());
        let response = self.send(request).await?;
        read_envelope(&name, response).await
    }

    /// `GET path`.
    pub(crate) async fn get(&self, path: &str) -> Result<Answer> {
        self.call(Method::GET, path, None).await
    }

    /// `GET path`, only the metadata.
    pub(crate) async fn get_value(&self, path: &str) -> Result<Value> {
        Ok(self.get(path).await?.metadata)
    }
}

/// A body that holds `data`.
pub(crate) fn full(data: impl Into<Bytes>) -> Body {
    Full::new(data.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// No body.
pub(crate) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// Finishes a request; fails on a header value that HTTP does not allow.
pub(crate) fn build(request: http::request::Builder, body: Body) -> Result<Request<Body>> {
    request
        .body(body)
        .map_err(|err| Error::Usage(format!("this makes no HTTP request: {err}")))
}

/// Reads a whole answer and turns an error envelope into an error.
pub(crate) async fn read_envelope(name: &str, response: Response<Incoming>) -> Result<Answer> {
    let status = response.status();
    let etag = response
        .headers()
        .get(header::ETAG)
        .and_then(|v| v.to_str().ok())
        .map(str::to_owned);
    let bytes = response
        .into_body()
        .collect()
        .await
        .map_err(|err| Error::protocol(name, err))?
        .to_bytes();
    let mut envelope: Value = serde_json::from_slice(&bytes).map_err(|_| {
        let text = String::from_utf8_lossy(&bytes);
        Error::protocol(
            name,
            format!("{status}: {}", text.chars().take(200).collect::<String>()),
        )
    })?;
    if envelope["type"] == "error" || status.is_client_error() || status.is_server_error() {
        let message = envelope["error"]
            .as_str()
            .filter(|m| !m.is_empty())
            .unwrap_or("no reason given")
            .to_owned();
        return Err(Error::Api {
            status: status.as_u16(),
            message,
        });
    }
    let operation = (status == StatusCode::ACCEPTED)
        .then(|| envelope["operation"].as_str().map(str::to_owned))
        .flatten()
        .filter(|path| !path.is_empty());
    Ok(Answer {
        metadata: envelope["metadata"].take(),
        etag,
        operation,
    })
}

/// Percent-encodes one path segment or query value.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
