//! A vhost-user back end, `virga-vhost-user`, for a guest of whatever VMM.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::host::dist;

/// The user that a back end becomes, and that its socket belongs to.
pub const BACK_END_USER: u32 = 54321;
/// Longer than a program takes to start on an emulated processor.
const PATIENCE: Duration = Duration::from_secs(60);

/// A back end that is gone when this is.
pub struct BackEnd(Child);

impl BackEnd {
    /// Serves a device on `socket` in this folder; it listens once this returns.
    pub fn start(folder: &Path, device: &Value) -> Self {
        let socket = Self::socket(folder);
        let _ = std::fs::remove_file(&socket);
        let all_may_enter = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder, all_may_enter).expect("open the folder to its user");
        let program = Command::new(dist().join("bin/virga-vhost-user"))
            .args(["--socket", "socket"])
            .args(["--sandbox", &json!({"uid": BACK_END_USER}).to_string()])
            .args(["--device", &device.to_string()])
            .current_dir(folder)
            .spawn()
            .expect("start virga-vhost-user");
        let began = Instant::now();
        while !socket.exists() {
            assert!(began.elapsed() < PATIENCE, "the back end does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self(program)
    }

    /// Where it listens.
    pub fn socket(folder: &Path) -> PathBuf {
        folder.join("socket")
    }
}

impl Drop for BackEnd {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
