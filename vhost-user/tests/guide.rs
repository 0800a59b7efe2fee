//! What `docs/vmm.md` shows of this program.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;
#[path = "../../vmm/tests/common/docs.rs"]
#[allow(dead_code, reason = "parts are for other guides")]
mod docs;

use std::fs;
use std::process::{Command, Stdio};

use common::{Place, connect, read};
use devices::testing::Harness;
use devices::virtio::vhost::{Connector, Profile, VhostUser};
use devices::virtio::worker::Virtio;

#[test]
fn the_back_end_of_the_guide_serves_its_disk() {
    // It takes another user.
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let shown = docs::blocks("vmm.md").into_iter();
    let [block] = shown
        .filter(|block| block.info == "sh back-end")
        .collect::<Vec<_>>()
        .try_into()
        .unwrap();
    let mut place = Place::new();
    let root = place.folder.path().to_owned();
    for folder in ["run/v1", "srv"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::write(root.join("srv/v1.raw"), [9; 1 << 20]).unwrap();
    let mut text = block.text;
    for folder in ["/run/", "/srv/"] {
        text = text.replace(folder, &format!("{}{folder}", root.display()));
    }
    // The program takes the shell's place, so that it can be ended.
    let text = text.trim_end().strip_suffix('&').unwrap();
    let (program, arguments) = text.split_once(' ').unwrap();
    assert_eq!(program, "virga-vhost-user");
    let mut shell = Command::new("bash");
    shell.args([
        "-c",
        &format!("exec {} {arguments}", env!("CARGO_BIN_EXE_virga-vhost-user")),
    ]);
    place.program = Some(shell.stdin(Stdio::null()).spawn().unwrap());
    let socket = root.join("run/v1/disk.sock");
    let connector: Connector = Box::new(move || Ok(connect(&socket)));
    let device = VhostUser::new(Profile::Block { queues: 1 }, connector).unwrap();
    let mut harness = Harness::with_device(Box::new(Virtio::new(device)), common::VERSION_1);
    assert_eq!(read(&mut harness, 0, 7), 9);
}
