//! A keep-alive HTTP/1.1 client on a unix socket, as small as can be, so that it costs less than the daemons it measures.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// A daemon that says nothing for so long has hung.
const PATIENCE: Duration = Duration::from_secs(60);
/// No answer of interest is larger.
const MAX_BODY: usize = 64 << 20;

/// One connection.
pub struct Connection {
    stream: BufReader<UnixStream>,
}

/// An answer.
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Body, without its transfer coding.
    pub body: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub fn open(socket: &Path) -> Result<Self> {
        let stream =
            UnixStream::connect(socket).with_context(|| format!("cannot connect to {}", socket.display()))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Sends a request and reads its answer.
    pub fn request(&mut self, method: &str, path: &str, kind: &str, body: &[u8]) -> Result<Answer> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
        if !kind.is_empty() {
            head += &format!("Content-Type: {kind}\r\nContent-Length: {}\r\n", body.len());
        }
        head += "\r\n";
        // In one piece: a server that has answered before it saw the body may close the connection.
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        self.stream
            .get_mut()
            .write_all(&bytes)
            .with_context(|| format!("cannot send {method} {path}"))?;
        self.answer()
            .with_context(|| format!("no answer to {method} {path}"))
    }

    /// GET.
    pub fn get(&mut self, path: &str) -> Result<Answer> {
        self.request("GET", path, "", &[])
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(
            (&mut self.stream).take(16 << 10).read_line(&mut line)? > 0,
            "the connection was closed"
        );
        line.truncate(line.trim_end().len());
        Ok(line)
    }

    fn answer(&mut self) -> Result<Answer> {
        let first = self.line()?;
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status: u16 = status.with_context(|| format!("{first:?} is not a status line"))?;
        let (mut length, mut chunked) = (0, false);
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let Some((name, value)) = line.split_once(':') else {
                bail!("{line:?} is not a header")
            };
            if name.eq_ignore_ascii_case("content-length") {
                length = value
                    .trim()
                    .parse()
                    .with_context(|| format!("{line:?} is no length"))?;
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                chunked = value.trim().eq_ignore_ascii_case("chunked");
            }
        }
        let mut body = Vec::new();
        if !chunked {
            self.append(&mut body, length)?;
        }
        while chunked {
            let line = self.line()?;
            let size = line.split(';').next().unwrap_or_default();
            let size = usize::from_str_radix(size, 16).with_context(|| format!("{line:?} is no chunk"))?;
            self.append(&mut body, size)?;
            self.line()?;
            chunked = size > 0;
        }
        Ok(Answer { status, body })
    }

    fn append(&mut self, body: &mut Vec<u8>, len: usize) -> Result<()> {
        let start = body.len();
        ensure!(
            start + len <= MAX_BODY,
            "the answer is larger than {MAX_BODY} bytes"
        );
        body.resize(start + len, 0);
        Ok(self.stream.read_exact(&mut body[start..])?)
    }
}

/// Incus' envelope: the whole answer as JSON; an error if it says so.
pub fn envelope(answer: &Answer) -> Result<Value> {
    let value: Value = serde_json::from_slice(&answer.body)
        .with_context(|| format!("the answer (status {}) is not JSON", answer.status))?;
    match value["type"].as_str() {
        Some("error") | None => bail!(
            "{} ({})",
            value["error"].as_str().unwrap_or("no reason given"),
            answer.status
        ),
        Some(_) => Ok(value),
    }
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
