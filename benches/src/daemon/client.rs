//! What a client of Incus' API does: calls, waits for operations, and life and death of instances.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::http::{Answer, Connection, envelope};

/// One keep-alive connection to a daemon.
pub struct Client {
    connection: Connection,
}

impl Client {
    /// Connects.
    pub fn open(socket: &Path) -> Result<Self> {
        Ok(Self {
            connection: Connection::open(socket)?,
        })
    }

    /// GET; what is in the envelope.
    pub fn get(&mut self, path: &str) -> Result<Value> {
        let answer = self.connection.get(path)?;
        Ok(envelope(&answer).with_context(|| format!("GET {path}"))?["metadata"].take())
    }

    /// Any call. A background operation is waited for; its end, or what is in the envelope.
    pub fn call(&mut self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let answer =
            self.connection
                .request(method, path, "application/json", body.to_string().as_bytes())?;
        self.finish(&answer).with_context(|| format!("{method} {path}"))
    }

    /// Uploads a file.
    pub fn upload(&mut self, path: &str, bytes: &[u8]) -> Result<Value> {
        let answer = self
            .connection
            .request("POST", path, "application/octet-stream", bytes)?;
        self.finish(&answer).with_context(|| format!("upload to {path}"))
    }

    fn finish(&mut self, answer: &Answer) -> Result<Value> {
        let mut value = envelope(answer)?;
        if value["type"] != "async" {
            return Ok(value["metadata"].take());
        }
        let operation = value["operation"]
            .as_str()
            .context("the answer has no operation")?;
        let mut ended = self.get(&format!("{operation}/wait"))?;
        match ended["err"].as_str() {
            None | Some("") if ended["status_code"] == 200 => Ok(ended.take()),
            reason => anyhow::bail!("the operation failed: {}", reason.unwrap_or("no reason given")),
        }
    }

    /// `launch` or `create` of a container.
    pub fn create(&mut self, name: &str, start: bool) -> Result<()> {
        let body = json!({
            "name": name, "type": "container", "start": start,
            "source": { "type": "image", "alias": "bench" },
        });
        self.call("POST", "/1.0/instances", &body).map(drop)
    }

    /// `exec`, without streams.
    pub fn exec(&mut self, name: &str, command: &[&str]) -> Result<()> {
        let body = json!({
            "command": command, "interactive": false, "wait-for-websocket": false, "record-output": false,
        });
        let done = self.call("POST", &format!("/1.0/instances/{name}/exec"), &body)?;
        let status = &done["metadata"]["return"];
        anyhow::ensure!(status == 0, "{command:?} returned {status}");
        Ok(())
    }

    /// `delete -f`.
    pub fn delete(&mut self, name: &str) -> Result<()> {
        let path = format!("/1.0/instances/{name}");
        let state = self.get(&path)?;
        if state["status"] != "Stopped" {
            self.call(
                "PUT",
                &format!("{path}/state"),
                &json!({ "action": "stop", "force": true, "timeout": -1 }),
            )?;
        }
        let answer = self.connection.request("DELETE", &path, "", &[])?;
        self.finish(&answer)
            .map(drop)
            .with_context(|| format!("DELETE {path}"))
    }

    /// `delete -f` of all instances.
    pub fn delete_all_instances(&mut self) -> Result<()> {
        let instances = self.get("/1.0/instances")?;
        for url in instances.as_array().into_iter().flatten() {
            if let Some(name) = url.as_str().and_then(|url| url.rsplit('/').next()) {
                self.delete(name)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
