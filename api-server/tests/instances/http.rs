//! A client of the daemon's socket, as small as it can be.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio_tungstenite::WebSocketStream;

/// How long any request may take. Builds with debug assertions on a busy machine are slow.
const TIMEOUT: Duration = Duration::from_secs(120);

#[derive(Debug, Clone)]
pub(crate) struct Client {
    socket: PathBuf,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }
}

impl Client {
    pub(crate) fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_path_buf(),
        }
    }

    /// One request; fails when the daemon goes away meanwhile.
    pub(crate) async fn try_request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
        let exchange = async {
            let stream = UnixStream::connect(&self.socket).await?;
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            let mut request = Request::builder()
                .method(Method::from_bytes(method.as_bytes())?)
                .uri(path);
            request = request.header("host", "virga");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let response = sender
                .send_request(request.body(Full::new(Bytes::from(body)))?)
                .await?;
            let (parts, body) = response.into_parts();
            Ok(Answer {
                status: parts.status,
                headers: parts.headers,
                body: body.collect().await?.to_bytes(),
            })
        };
        tokio::time::timeout(TIMEOUT, exchange).await?
    }

    pub(crate) async fn request(&self, method: &str, path: &str, body: Value) -> Answer {
        let body = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        let headers = [("content-type", "application/json")];
        self.try_request(method, path, &headers, body)
            .await
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// `metadata` of a request that must succeed at once.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let answer = self.request("GET", path, Value::Null).await;
        assert_eq!(answer.status, StatusCode::OK, "GET {path}: {}", answer.json());
        answer.json()["metadata"].take()
    }

    /// The operation that a request begins, at its end.
    pub(crate) async fn operation(&self, method: &str, path: &str, body: Value) -> Value {
        let answer = self.request(method, path, body).await;
        assert_eq!(
            answer.status,
            StatusCode::ACCEPTED,
            "{method} {path}: {}",
            answer.json()
        );
        let url = answer.json()["operation"].as_str().unwrap().to_owned();
        self.get(&format!("{url}/wait")).await
    }

    /// An operation that must succeed; returns its metadata.
    pub(crate) async fn succeed(&self, method: &str, path: &str, body: Value) -> Value {
        let mut operation = self.operation(method, path, body).await;
        assert_eq!(
            operation["status"], "Success",
            "{method} {path}: {}",
            operation["err"]
        );
        operation["metadata"].take()
    }

    /// An operation, or its request, that must fail; returns the words.
    pub(crate) async fn fail(&self, method: &str, path: &str, body: Value) -> String {
        let answer = self.request(method, path, body).await;
        if answer.status != StatusCode::ACCEPTED {
            assert!(
                answer.status.is_client_error() || answer.status.is_server_error(),
                "{method} {path} succeeded"
            );
            return answer.json()["error"].as_str().unwrap().to_owned();
        }
        let url = answer.json()["operation"].as_str().unwrap().to_owned();
        let operation = self.get(&format!("{url}/wait")).await;
        assert_eq!(operation["status"], "Failure", "{method} {path} succeeded");
        operation["err"].as_str().unwrap().to_owned()
    }

    /// A websocket of the daemon.
    pub(crate) async fn websocket(&self, path: &str) -> WebSocketStream<UnixStream> {
        let stream = UnixStream::connect(&self.socket).await.unwrap();
        let (socket, _) = tokio_tungstenite::client_async(format!("ws://virga{path}"), stream)
            .await
            .unwrap();
        socket
    }
}
