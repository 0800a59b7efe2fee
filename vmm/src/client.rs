//! The daemon's side of a VM's control socket: one blocking call per request, each with a time limit.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use thiserror::Error;
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use crate::config::VmConfig;
use crate::control::state::{DeviceInfo, Metrics, StateInfo};
use crate::unix_path;

/// How long one request may take. Pausing waits for devices to finish what is in flight.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// A longer response is not from a VMM.
const MAX_RESPONSE_BYTES: u64 = 4 << 20;

/// Why a request did not succeed.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody answers on the socket: the VM has ended or is not up yet.
    #[error("cannot reach the VM at {path}: {source}; it may have ended, see exit.json in the same folder")]
    Unreachable {
        /// The control socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The VM refused.
    #[error("the VM refuses {request}: {message} (status {status})")]
    Refused {
        /// Method and path.
        request: String,
        /// HTTP status.
        status: u16,
        /// The VM's own words.
        message: String,
    },
    /// What came back is not the expected document.
    #[error("the VM's answer to {request} makes no sense: {problem}")]
    Protocol {
        /// Method and path.
        request: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// A handle on one VM. It holds no connection: each call makes its own.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
    timeout: Duration,
}

impl Client {
    /// Connects to the VM with this run directory and checks that it answers.
    pub fn connect(run_dir: &Path) -> Result<Self, ClientError> {
        let client = Self::at(run_dir.join("control.sock"));
        client.state()?;
        Ok(client)
    }

    /// A handle on the VM with this control socket; nothing is sent yet.
    #[must_use]
    pub fn at(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
            timeout: DEFAULT_TIMEOUT,
        }
    }

    /// The same with another time limit for each request.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// `GET /state`.
    pub fn state(&self) -> Result<StateInfo, ClientError> {
        self.get("/state")
    }

    /// `GET /devices`.
    pub fn devices(&self) -> Result<Vec<DeviceInfo>, ClientError> {
        self.get("/devices")
    }

    /// `GET /metrics`.
    pub fn metrics(&self) -> Result<Metrics, ClientError> {
        self.get("/metrics")
    }

    /// `GET /config`.
    pub fn config(&self) -> Result<VmConfig, ClientError> {
        self.get("/config")
    }

    /// `PUT /start`: runs a VM that was made with `"autostart": false`.
    pub fn start(&self) -> Result<(), ClientError> {
        self.put("/start")
    }

    /// `PUT /pause`: when it returns, no vCPU runs and no device works.
    pub fn pause(&self) -> Result<(), ClientError> {
        self.put("/pause")
    }

    /// `PUT /resume`.
    pub fn resume(&self) -> Result<(), ClientError> {
        self.put("/resume")
    }

    /// `PUT /power-button`: asks the guest to power off.
    pub fn power_button(&self) -> Result<(), ClientError> {
        self.put("/power-button")
    }

    /// `PUT /stop`: ends the VM at once.
    pub fn stop(&self) -> Result<(), ClientError> {
        self.put("/stop")
    }

    /// `PATCH /devices/ID`: changes something of a device while the guest runs. The document is of the device's own kind.
    pub fn update_device(&self, id: &str, update: &Value) -> Result<Value, ClientError> {
        self.call("PATCH", &format!("/devices/{id}"), Some(update), &[])
    }

    /// Any request, with a document and with descriptors that the document names as `"fd:0"`, `"fd:1"` and so on.
    pub fn call(
        &self,
        method: &str,
        path: &str,
        document: Option<&Value>,
        files: &[BorrowedFd<'_>],
    ) -> Result<Value, ClientError> {
        let body = document.map(ToString::to_string).unwrap_or_default();
        let answer = self.request(method, path, &body, files)?;
        serde_json::from_slice(&answer).map_err(|error| ClientError::Protocol {
            request: format!("{method} {path}"),
            problem: error.to_string(),
        })
    }

    fn put(&self, path: &str) -> Result<(), ClientError> {
        self.request("PUT", path, "", &[]).map(|_| ())
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let body = self.request("GET", path, "", &[])?;
        serde_json::from_slice(&body).map_err(|error| ClientError::Protocol {
            request: format!("GET {path}"),
            problem: error.to_string(),
        })
    }

    fn request(
        &self,
        method: &str,
        path: &str,
        body: &str,
        files: &[BorrowedFd<'_>],
    ) -> Result<Vec<u8>, ClientError> {
        let request = format!("{method} {path}");
        let text = format!(
            "{request} HTTP/1.1\r\nHost: vm\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let response = self
            .exchange(&text, files)
            .map_err(|source| ClientError::Unreachable {
                path: self.socket.clone(),
                source,
            })?;
        let broken = |problem: String| ClientError::Protocol {
            request: request.clone(),
            problem,
        };
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut head = httparse::Response::new(&mut headers);
        let body = match head.parse(&response) {
            Ok(httparse::Status::Complete(len)) => response.get(len..).unwrap_or_default().to_vec(),
            Ok(httparse::Status::Partial) => return Err(broken("the connection closed too early".into())),
            Err(error) => return Err(broken(error.to_string())),
        };
        let status = head.code.unwrap_or(0);
        if (200..300).contains(&status) {
            return Ok(body);
        }
        let document: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let message = document["error"]
            .as_str()
            .map_or_else(|| "no reason given".to_owned(), str::to_owned);
        Err(ClientError::Refused {
            request,
            status,
            message,
        })
    }

    fn exchange(&self, request: &str, files: &[BorrowedFd<'_>]) -> io::Result<Vec<u8>> {
        let mut stream = unix_path::connect(&self.socket)?;
        stream.set_read_timeout(Some(self.timeout))?;
        stream.set_write_timeout(Some(self.timeout))?;
        let mut rest = request.as_bytes();
        if !files.is_empty() {
            // They go with the first bytes.
            let numbers: Vec<_> = files.iter().map(AsRawFd::as_raw_fd).collect();
            let sent = stream.send_with_fds(&[rest], &numbers)?;
            rest = rest.get(sent..).unwrap_or_default();
        }
        stream.write_all(rest)?;
        let mut response = Vec::new();
        stream.take(MAX_RESPONSE_BYTES).read_to_end(&mut response)?;
        Ok(response)
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
