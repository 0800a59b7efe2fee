//! A folder in which the program serves a disk or something else, and a front end of ours.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(dead_code, reason = "each test binary uses a part of this")]

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use devices::testing::{Harness, Part};
use devices::virtio::vhost::{Connector, Profile, VhostUser};
use devices::virtio::worker::Virtio;
use serde_json::{Value, json};

pub(crate) const VERSION_1: u64 = 1 << 32;
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A folder with a disk, and perhaps a program that serves it.
pub(crate) struct Place {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) program: Option<Child>,
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let disk = File::create(folder.path().join("disk")).unwrap();
        disk.set_len(1 << 20).unwrap();
        Self {
            folder,
            program: None,
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    pub(crate) fn connector(&self) -> Connector {
        let socket = self.socket();
        Box::new(move || UnixStream::connect(&socket))
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_virga-vhost-user"));
        command.current_dir(self.folder.path()).args(arguments);
        command
    }

    /// The program with the disk, not started yet.
    pub(crate) fn disk_command(&self, arguments: &[&str]) -> Command {
        self.device_command(&disk(Path::new("disk")), arguments)
    }

    /// The same with any device.
    pub(crate) fn device_command(&self, device: &Value, arguments: &[&str]) -> Command {
        let mut command = self.command(&["--socket", "socket", "--device", &device.to_string()]);
        command.args(arguments);
        command
    }

    /// Starts the program with the disk; it listens once this returns.
    pub(crate) fn serve(&mut self, arguments: &[&str]) {
        self.serve_device(&disk(Path::new("disk")), arguments);
    }

    /// The same with any device.
    pub(crate) fn serve_device(&mut self, device: &Value, arguments: &[&str]) {
        let _ = fs::remove_file(self.socket());
        let mut command = self.device_command(device, arguments);
        self.program = Some(command.spawn().unwrap());
        drop(self.connect());
    }

    /// Connects to a program that may not listen yet.
    pub(crate) fn connect(&self) -> UnixStream {
        connect(&self.socket())
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut program) = self.program.take() {
            program.kill().unwrap();
            program.wait().unwrap();
        }
    }

    /// A front end of the disk, which connects again when it has to.
    pub(crate) fn disk(&self) -> Harness {
        self.disk_by(self.connect())
    }

    /// The same by a connection that is there already.
    pub(crate) fn disk_by(&self, stream: UnixStream) -> Harness {
        let (mut first, mut connector) = (Some(stream), self.connector());
        let connector: Connector = Box::new(move || first.take().map_or_else(&mut connector, Ok));
        let device = VhostUser::new(Profile::Block { queues: 2 }, connector).unwrap();
        Harness::with_device(Box::new(Virtio::new(device)), VERSION_1)
    }
}

pub(crate) fn connect(socket: &Path) -> UnixStream {
    let began = Instant::now();
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return stream,
            Err(error) => assert!(began.elapsed() < PATIENCE, "nobody listens: {error}"),
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A disk with two queues.
pub(crate) fn disk(path: &Path) -> Value {
    json!({"disk": {"id": "remote", "path": path, "queues": 2}})
}

impl Drop for Place {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn header(kind: u32, sector: u64) -> Part {
    Part::Read([&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat())
}

pub(crate) fn write(harness: &mut Harness, queue: usize, sector: u64, byte: u8) {
    let parts = [header(1, sector), Part::Read(vec![byte; 512]), Part::Write(1)];
    assert_eq!(harness.request(queue, &parts), (1, vec![0]));
}

pub(crate) fn read(harness: &mut Harness, queue: usize, sector: u64) -> u8 {
    let (_, bytes) = harness.request(queue, &[header(0, sector), Part::Write(513)]);
    assert_eq!(bytes[512], 0);
    bytes[0]
}
