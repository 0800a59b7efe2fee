//! Websockets and other upgraded connections to the daemon.

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::{Client, build, empty, read_envelope};
use crate::error::{Error, Result};

/// A websocket to the daemon.
pub(crate) type WebSocket = WebSocketStream<UnixStream>;

impl Client {
    /// Opens the websocket at `path`.
    pub(crate) async fn websocket(&self, path: &str) -> Result<WebSocket> {
        let path = self.with_project(path);
        let stream = self.connect().await?;
        let config = WebSocketConfig::default().max_message_size(Some(16 << 20));
        let url = format!("ws://virga{path}");
        match tokio_tungstenite::client_async_with_config(url, stream, Some(config)).await {
            Ok((socket, _)) => Ok(socket),
            Err(tokio_tungstenite::tungstenite::Error::Http(response)) => {
                let body = response.body().as_deref().unwrap_or_default();
                let message = serde_json::from_slice::<serde_json::Value>(body)
                    .ok()
                    .and_then(|v| v["error"].as_str().map(str::to_owned))
                    .unwrap_or_else(|| format!("the daemon refused the websocket: {}", response.status()));
                Err(Error::Api {
                    status: response.status().as_u16(),
                    message,
                })
            }
            Err(err) => Err(Error::protocol(format!("websocket {path}"), err)),
        }
    }

    /// Asks for `path` to be turned into a raw stream that speaks `protocol`.
    pub(crate) async fn upgrade(&self, path: &str, protocol: &'static str) -> Result<TokioIo<Upgraded>> {
        let request = http::Request::get(path)
            .header(http::header::CONNECTION, "Upgrade")
            .header(http::header::UPGRADE, protocol);
        let name = format!("GET {path}");
        let response = self.send(build(request, empty())?).await?;
        if response.status() != http::StatusCode::SWITCHING_PROTOCOLS {
            read_envelope(&name, response).await?;
            return Err(Error::protocol(
                name,
                format!("it was not switched to {protocol}"),
            ));
        }
        let upgraded = hyper::upgrade::on(response)
            .await
            .map_err(|err| Error::protocol(name, err))?;
        Ok(TokioIo::new(upgraded))
    }
}
