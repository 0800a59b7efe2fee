//! Disks that another process serves, driven by payload guests. The back ends are threads of the tests.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use common::disk_driver::{disk, read_over_mmio, read_when_told, read_with_message};
use common::payload::Payload;
use common::vm::{Spec, eventually, has_kvm};
use devices::virtio::block::{self, Block};
use devices::virtio::transport::vhost_user::serve;
use devices::virtio::worker::{Virtio, no_hook};
use serde_json::json;

/// A back end for one front end.
struct BackEnd {
    thread: JoinHandle<UnixStream>,
}

/// Serves a disk to whoever is at the other end, until that hangs up.
fn serve_disk(disk: &Path, front_end: UnixStream) {
    let file = File::options().read(true).write(true).open(disk).unwrap();
    let block = Block::new(
        block::Config::default(),
        vec![block::DiskFile::raw(file).unwrap()],
    )
    .unwrap();
    let (_, result) = serve(Box::new(Virtio::new(block)), front_end, no_hook());
    result.unwrap();
}

impl BackEnd {
    /// Listens beside the disk, where any user may connect.
    fn new(disk: &Path) -> Self {
        let socket = disk.with_extension("sock");
        let _ = fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        fs::set_permissions(&socket, Permissions::from_mode(0o777)).unwrap();
        fs::set_permissions(socket.parent().unwrap(), Permissions::from_mode(0o755)).unwrap();
        let disk = disk.to_owned();
        let thread = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let served = stream.try_clone().unwrap();
            std::thread::spawn(move || serve_disk(&disk, served));
            stream
        });
        Self { thread }
    }

    /// Dies, once it has had a front end.
    fn die(self) {
        self.thread.join().unwrap().shutdown(Shutdown::Both).unwrap();
    }
}

/// A VM with a disk that somebody else has; unprivileged, if that can be had.
fn spec(payload: &Payload, text: &str) -> (Spec, PathBuf) {
    let mut spec = Spec::new(payload).set("memory", json!({"shared": true}));
    if nix::unistd::geteuid().is_root() {
        spec = spec.set("sandbox", json!({"uid": 54321, "gid": 54322}));
    }
    let path = spec.file("disk", &disk(text));
    spec = spec.set(
        "disks",
        json!([{"id": "root", "vhost_user": path.with_extension("sock")}]),
    );
    (spec, path)
}

#[test]
fn a_guest_reads_a_remote_disk_and_gets_its_message_directly() {
    if !has_kvm() {
        return;
    }
    let text = "a sector from elsewhere";
    let payload = read_with_message(text.len()).forever();
    let (spec, path) = spec(&payload, text);
    let _back_end = BackEnd::new(&path);
    let mut vm = spec.start();
    let client = vm.client();
    vm.wait_for(" interrupt");
    assert_eq!(vm.log(), format!("{text} status \0 interrupt"));
    let metrics = client.metrics().unwrap().devices["root"].clone();
    assert_eq!(metrics["relayed_interrupts"], 0, "{metrics}");
    assert_eq!(metrics["disconnects"], 0, "{metrics}");
    client.stop().unwrap();
    vm.end();
}

#[test]
fn a_guest_reads_a_remote_disk_over_mmio() {
    if !has_kvm() {
        return;
    }
    let text = "a sector from elsewhere over MMIO";
    let payload = read_over_mmio(text.len()).power_off();
    let (spec, path) = spec(&payload, text);
    let _back_end = BackEnd::new(&path);
    let ended = spec.set("transport", "mmio".into()).run_to_end();
    assert_eq!(
        ended.console,
        format!("{text} status \0 interrupt"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_guest_survives_the_death_of_its_back_end_and_goes_on_with_the_next() {
    if !has_kvm() {
        return;
    }
    let text = "read after a death";
    let payload = read_when_told(text.len());
    let (spec, path) = spec(&payload, text);
    let back_end = BackEnd::new(&path);
    let mut vm = spec.start();
    let client = vm.client();
    vm.wait_for("waiting");
    back_end.die();
    let metrics = || client.metrics().unwrap().devices["root"].clone();
    eventually("the loss to be seen", || {
        (metrics()["disconnects"] == 1).then_some(())
    });
    vm.console().write_all(b"x").unwrap();
    // Nobody is there: the request waits, and everything else goes on.
    client.pause().unwrap();
    client.resume().unwrap();
    eventually("failed attempts", || {
        (metrics()["failed_reconnects"].as_u64() > Some(1)).then_some(())
    });
    let _next = BackEnd::new(&path);
    let ended = vm.end();
    assert_eq!(ended.console, format!("waiting\n{text}"), "{}", ended.stderr);
}

#[test]
fn a_remote_disk_is_added_by_a_connection() {
    if !has_kvm() {
        return;
    }
    let payload = Payload::new().print("up").forever();
    let mut vm = Spec::new(&payload).set("memory", json!({"shared": true})).start();
    let client = vm.client();
    vm.wait_for("up");
    let path = vm.spec.file("disk", &disk("new"));
    let (ours, theirs) = UnixStream::pair().unwrap();
    std::thread::spawn(move || serve_disk(&path, ours));
    let document = json!({"disk": {"id": "new", "vhost_user": "fd:0"}});
    client
        .call("POST", "/devices", Some(&document), &[theirs.as_fd()])
        .unwrap();
    assert!(client.devices().unwrap().iter().any(|device| device.id == "new"));
    client.stop().unwrap();
    vm.end();
}

#[test]
fn what_a_remote_disk_needs_is_said() {
    if !has_kvm() {
        return;
    }
    let (private, _) = spec(&Payload::new(), "");
    let ended = private.set("memory", json!({})).run_to_end();
    assert_eq!(ended.status, Some(2));
    assert!(
        ended.stderr.contains("`memory.shared` is false: `disks[0].vhost_user` needs memory that its back end can map; set it to true"),
        "{}",
        ended.stderr
    );
    let (nobody, _) = spec(&Payload::new().forever(), "");
    let ended = nobody.run_to_end();
    assert!(ended.stderr.contains("disk.sock"), "{}", ended.stderr);
    assert!(ended.stderr.contains("No such file"), "{}", ended.stderr);
}
