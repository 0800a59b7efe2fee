//! The daemon's side of a monitor's control socket: blocking, with timeouts.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::spec::Limits;
use crate::state::{Metrics, State};
use crate::{Error, Result, http, run_dir, socket};

/// A monitor answers within microseconds; only a machine that thrashes needs longer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Talks to the monitor of one run directory. Each call makes its own connection, so a client may be kept, cloned and used
/// from several threads.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
    timeout: Duration,
}

#[derive(serde::Deserialize)]
struct Refusal {
    error: String,
}

impl Client {
    /// Reaches the monitor of `run_dir`; fails when nothing listens there.
    pub fn connect(run_dir: &Path) -> Result<Self> {
        let client = Self {
            socket: run_dir.join(run_dir::CONTROL_SOCKET),
            timeout: TIMEOUT,
        };
        client.open()?;
        Ok(client)
    }

    /// The same client with another time limit for each call.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Where the container is in its life.
    pub fn state(&self) -> Result<State> {
        self.get("/state")
    }

    /// Lets the held init process run.
    pub fn start(&self) -> Result<()> {
        self.put("/start", &json!({}))
    }

    /// Sends a signal to the init process; `SIGKILL` ends the whole container.
    pub fn kill(&self, signal: i32) -> Result<()> {
        self.put("/kill", &json!({ "signal": signal }))
    }

    /// Stops all processes where they are.
    pub fn freeze(&self) -> Result<()> {
        self.put("/freeze", &json!({}))
    }

    /// Lets frozen processes run on.
    pub fn thaw(&self) -> Result<()> {
        self.put("/thaw", &json!({}))
    }

    /// What the container uses now.
    pub fn metrics(&self) -> Result<Metrics> {
        self.get("/metrics")
    }

    /// Sets the size of the console's terminal.
    pub fn console_size(&self, width: u16, height: u16) -> Result<()> {
        self.put("/console-size", &json!({ "width": width, "height": height }))
    }

    /// Changes the resource limits of the running container.
    pub fn set_limits(&self, limits: &Limits) -> Result<()> {
        self.put("/limits", limits)
    }

    fn open(&self) -> Result<UnixStream> {
        let answer = socket::connect(&self.socket).and_then(|stream| {
            stream.set_read_timeout(Some(self.timeout))?;
            stream.set_write_timeout(Some(self.timeout))?;
            Ok(stream)
        });
        answer.map_err(|source| Error::NoMonitor {
            path: self.socket.parent().unwrap_or(&self.socket).to_path_buf(),
            source,
        })
    }

    fn call(&self, method: &str, path: &str, body: &[u8]) -> Result<Vec<u8>> {
        let (status, answer) = http::exchange(&mut self.open()?, method, path, body)?;
        if status == 200 {
            return Ok(answer);
        }
        let message = serde_json::from_slice::<Refusal>(&answer).map_or_else(
            |_| String::from_utf8_lossy(&answer).into_owned(),
            |refusal| refusal.error,
        );
        Err(Error::Refused { status, message })
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let answer = self.call("GET", path, &[])?;
        serde_json::from_slice(&answer).map_err(|e| Error::Protocol(format!("{path}: {e}")))
    }

    fn put(&self, path: &str, body: &impl Serialize) -> Result<()> {
        let body = serde_json::to_vec(body).map_err(|e| Error::Protocol(e.to_string()))?;
        self.call("PUT", path, &body).map(drop)
    }
}
