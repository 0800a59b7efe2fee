//! Linux on a folder of the host: Debian's virtiofsd serves it to our own VMM, by vhost-user.

#![allow(clippy::expect_used, reason = "a step that fails fails the test")]

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use end_to_end::network::bulk;
use end_to_end::{Guest, skipped, virtual_machines_run_here};
use serde_json::json;

const VIRTIOFSD: &str = "/usr/libexec/virtiofsd";
/// Longer than a program takes to start on an emulated processor.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program that is gone with the test.
struct Daemon(Child);

impl Daemon {
    /// Serves a folder; it listens once this returns.
    fn start(socket: &Path, folder: &Path) -> Self {
        let program = Command::new(VIRTIOFSD)
            .arg(format!("--socket-path={}", socket.display()))
            .args(["-o", &format!("source={}", folder.display()), "-f"])
            .stdin(Stdio::null())
            .spawn()
            .expect("start virtiofsd");
        let program = Self(program);
        let began = Instant::now();
        while !socket.exists() {
            assert!(began.elapsed() < PATIENCE, "virtiofsd does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        program
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It ends with its front end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn linux_reads_and_writes_a_folder_of_the_host() {
    const NAME: &str = "linux_reads_and_writes_a_folder_of_the_host";
    if !virtual_machines_run_here(NAME) {
        return;
    }
    if !Path::new(VIRTIOFSD).exists() {
        skipped(NAME, "the host has no virtiofsd");
        return;
    }
    let folder = tempfile::tempdir().expect("a scratch directory");
    let (socket, shared) = (folder.path().join("socket"), folder.path().join("shared"));
    fs::create_dir(&shared).expect("make a folder");
    let data = bulk();
    fs::write(shared.join("from-host"), &data).expect("write a file");
    let _daemon = Daemon::start(&socket, &shared);
    let script = "mkdir /m; mount -t virtiofs home /m && echo mounted $(ls /m); cd /m
        cp from-host back; ls -l /m; mkdir -p a/b; echo from the guest >a/b/c; ln -s a/b/c link; mv back a/back
        sync; echo written; until [ -e later ]; do sleep 0.2; done; echo later: $(cat later)
        echo changed >>later; rm from-host; echo done; cd /; umount /m; poweroff -f";
    let mut guest = Guest::start(script, |config| {
        config["memory"] = json!({"shared": true});
        config["file_systems"] = json!([{"tag": "home", "socket": socket}]);
    });
    guest.wait_for("written");
    let text = |name: &str| fs::read_to_string(shared.join(name)).expect("read what the guest wrote");
    assert_eq!(
        (text("a/b/c"), text("link")),
        ("from the guest\n".to_owned(), text("a/b/c"))
    );
    assert!(fs::read(shared.join("a/back")).expect("read what the guest copied") == data);
    // Complete when it appears.
    fs::write(folder.path().join("later"), "by the host, while it runs\n").expect("write a file");
    fs::rename(folder.path().join("later"), shared.join("later")).expect("move it there");
    let (console, report) = guest.end();
    for expected in ["mounted from-host", "later: by the host, while it runs", "done"] {
        assert!(console.contains(expected), "{console}");
    }
    assert_eq!(report["reason"], "poweroff", "{report}");
    assert_eq!(text("later"), "by the host, while it runs\nchanged\n");
    assert!(!shared.join("from-host").exists());
}
