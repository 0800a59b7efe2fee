//! VMs that get their files and sockets as descriptors.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::{UnixListener, UnixStream};

use common::payload::Payload;
use common::vm::{Spec, eventually, has_kvm};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use serde_json::{Value, json};
use vmm::client::Client;

/// `fd:N` for a descriptor that programs started from now on inherit.
fn passed(descriptor: impl AsFd) -> Value {
    fcntl(&descriptor, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    format!("fd:{}", descriptor.as_fd().as_raw_fd()).into()
}

#[test]
fn kernel_disk_and_sockets_come_as_descriptors() {
    if !has_kvm() {
        return;
    }
    let spec = Spec::new(&Payload::new().print("up").forever());
    let kernel = File::open(spec.folder.path().join("kernel")).unwrap();
    let initrd = File::open(spec.file("initrd", &[7; 4096])).unwrap();
    let disk = File::options()
        .read(true)
        .write(true)
        .open(spec.file("disk", &[0; 4096]))
        .unwrap();
    let control = UnixListener::bind(spec.folder.path().join("control")).unwrap();
    let console = UnixListener::bind(spec.folder.path().join("console")).unwrap();
    let (control_path, console_path) = (
        spec.folder.path().join("control"),
        spec.folder.path().join("console"),
    );
    let mut vm = spec
        .set(
            "kernel",
            json!({"path": passed(&kernel), "initrd": [passed(&initrd)]}),
        )
        .set("disks", json!([{"id": "root", "path": passed(&disk)}]))
        .set("control_socket", passed(&control))
        .set(
            "serial",
            json!({"log": "console.log", "socket": passed(&console)}),
        )
        .set("autostart", false.into())
        .start();
    let client = Client::at(&control_path);
    assert_eq!(client.devices().unwrap()[0].id, "root");
    let mut attached = UnixStream::connect(&console_path).unwrap();
    client.start().unwrap();
    let mut text = [0; 2];
    attached.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"up");
    vm.wait_for("up");
    client.stop().unwrap();
    let status = eventually("the end of the VM", || vm.process.try_wait().unwrap());
    assert_eq!(status.code(), Some(5));
    assert!(
        control_path.exists(),
        "a socket that was passed in belongs to whoever made it"
    );
}

#[test]
fn a_descriptor_that_does_not_fit_ends_the_start_with_its_number() {
    let spec = Spec::new(&Payload::new().forever());
    let disk = File::open(spec.file("disk", &[0; 4096])).unwrap();
    let path = passed(&disk);
    let ended = spec
        .set("disks", json!([{"id": "root", "path": path.clone()}]))
        .run_to_end();
    assert_eq!(ended.status, Some(1));
    let expected = format!("descriptor {} is not open for writing", disk.as_raw_fd());
    assert!(ended.stderr.contains(&expected), "{}", ended.stderr);

    let ended = Spec::new(&Payload::new().forever())
        .set("disks", json!([{"id": "root", "path": "fd:987"}]))
        .run_to_end();
    assert!(
        ended.stderr.contains("fd:987") && ended.stderr.contains("pass it on"),
        "{}",
        ended.stderr
    );
}
