//! A daemon of the test's own: the real program, a state directory that disappears, and a small HTTP client.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub)]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// How long a daemon may take to be there. Generous: the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running daemon. Dropping it kills it and removes its state.
pub struct TestDaemon {
    state: TempDir,
    child: Child,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.text()))
    }

    pub fn metadata(&self) -> Value {
        self.json()["metadata"].clone()
    }

    pub fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or_default().to_owned()
    }
}

impl TestDaemon {
    /// A daemon with an empty state directory and nothing made at first start.
    pub fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), &["--bootstrap", "none"], None)
    }

    /// A daemon with the first pool, network and profile.
    pub fn start_with_bootstrap() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), &[], None)
    }

    pub fn start_in(state: TempDir, arguments: &[&str], crash_at: Option<&str>) -> Self {
        let child = spawn(state.path(), arguments, crash_at);
        let mut daemon = Self { state, child };
        daemon.wait_ready();
        daemon
    }

    fn wait_ready(&mut self) {
        let since = Instant::now();
        while UnixStream::connect(self.socket()).is_err() {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the daemon ended at its start: {status}");
            }
            assert!(
                since.elapsed() < PATIENCE,
                "the daemon is not ready after {PATIENCE:?}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn path(&self) -> &Path {
        self.state.path()
    }

    pub fn socket(&self) -> PathBuf {
        self.path().join("unix.socket")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`, then a new daemon on the same state.
    pub fn kill_and_restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.restart(None);
    }

    /// A new daemon on the same state; the old one must have ended.
    pub fn restart(&mut self, crash_at: Option<&str>) {
        let _ = std::fs::remove_file(self.socket());
        self.child = spawn(self.path(), &["--bootstrap", "none"], crash_at);
        self.wait_ready();
    }

    /// Waits for the daemon's own end.
    pub fn wait_end(&mut self) -> ExitStatus {
        let since = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                since.elapsed() < PATIENCE,
                "the daemon has not ended after {PATIENCE:?}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn terminate(&mut self) -> ExitStatus {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        self.wait_end()
    }

    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[], b"")
    }

    pub fn send(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.request(
            method,
            path,
            &[("Content-Type", "application/json")],
            body.to_string().as_bytes(),
        )
    }

    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.try_request(method, path, headers, body)
            .unwrap_or_else(|| panic!("{method} {path} was not answered"))
    }

    /// A request that may end with the daemon.
    pub fn try_request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Option<Answer> {
        let mut stream = UnixStream::connect(self.socket()).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: unix\r\nConnection: close\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(body).ok()?;
        let mut received = Vec::new();
        stream.read_to_end(&mut received).ok()?;
        parse(&received)
    }

    /// Sends a request that is answered with an operation, and waits for its end.
    pub fn operate(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.send(method, path, body);
        assert_eq!(answer.status, 202, "{method} {path}: {}", answer.text());
        self.wait_operation(&answer)
    }

    /// Waits for the end of the operation that an answer tells of.
    pub fn wait_operation(&self, answer: &Answer) -> Value {
        let url = answer
            .header("location")
            .expect("an operation has a URL")
            .to_owned();
        self.get(&format!("{url}/wait?timeout=60")).metadata()
    }

    /// Asserts that an operation ended well.
    pub fn succeed(&self, method: &str, path: &str, body: &Value) -> Value {
        let operation = self.operate(method, path, body);
        assert_eq!(operation["status"], "Success", "{method} {path}: {operation}");
        operation
    }
}

impl Drop for TestDaemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(state: &Path, arguments: &[&str], crash_at: Option<&str>) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_virgad"));
    command.arg("--state-dir").arg(state).args(arguments);
    command.env_remove("VIRGA_CRASH_AT").stdin(Stdio::null());
    if let Some(point) = crash_at {
        command.env("VIRGA_CRASH_AT", point);
    }
    command.spawn().unwrap()
}

fn parse(received: &[u8]) -> Option<Answer> {
    let end = received.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&received[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let mut body = received[end + 4..].to_vec();
    let chunked = headers.iter().any(|(name, value)| {
        name.eq_ignore_ascii_case("transfer-encoding") && value.eq_ignore_ascii_case("chunked")
    });
    if chunked {
        body = dechunk(&body);
    }
    Some(Answer {
        status,
        headers,
        body,
    })
}

fn dechunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|window| window == b"\r\n") {
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap().trim(), 16).unwrap();
        if length == 0 {
            break;
        }
        body.extend_from_slice(&rest[end + 2..end + 2 + length]);
        rest = &rest[end + 2 + length + 2..];
    }
    body
}

/// A container image, as one file.
pub fn unified_image(name: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    append(&mut builder, "metadata.yaml", metadata(name).as_bytes());
    append(&mut builder, "rootfs/etc/hostname", b"image\n");
    builder.into_inner().unwrap()
}

/// A container image in two parts.
pub fn split_image(name: &str) -> (Vec<u8>, Vec<u8>) {
    let mut meta = tar::Builder::new(Vec::new());
    append(&mut meta, "metadata.yaml", metadata(name).as_bytes());
    let mut rootfs = tar::Builder::new(Vec::new());
    append(&mut rootfs, "etc/hostname", b"image\n");
    (meta.into_inner().unwrap(), rootfs.into_inner().unwrap())
}

fn metadata(name: &str) -> String {
    format!("architecture: x86_64\ncreation_date: 1700000000\nproperties:\n  name: {name}\n  os: Test\n")
}

fn append(builder: &mut tar::Builder<Vec<u8>>, path: &str, content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    builder.append_data(&mut header, path, content).unwrap();
}

/// Runs the rest of a test in network and mount namespaces of its own: returns true in there. The test binary runs
/// itself again for only that test, so that nothing it does to links can be seen outside.
pub fn in_own_namespaces(test: &str) -> bool {
    const INSIDE: &str = "VIRGA_TEST_INSIDE";
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let status = Command::new("unshare")
        .args([
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{test} failed in its own namespaces: {status}");
    false
}
