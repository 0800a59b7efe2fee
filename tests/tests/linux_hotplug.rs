//! What Linux makes of a machine that changes while it runs: devices that come and go, another generation id, and what the
//! machine is called.

#![allow(clippy::expect_used, reason = "a step that fails fails the test")]

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::process::Command;

use end_to_end::{Guest, virtual_machines_run_here};
use nix::libc;
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};

/// `linux/if_tun.h`.
const TUNSETIFF: libc::c_ulong = 0x4004_54ca;

/// A tap with virtio-net headers in this thread's network.
fn tap() -> File {
    let tap = File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .expect("open /dev/net/tun");
    // SAFETY: all zeros are a valid request.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(*b"tap0") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
    // SAFETY: the descriptor is open, and the request lives for the call.
    let result = unsafe { libc::ioctl(tap.as_raw_fd(), TUNSETIFF, &raw const request) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    for words in ["address add 10.81.0.1/24 dev tap0", "link set tap0 up"] {
        let status = Command::new("ip").args(words.split(' ')).status().expect("ip");
        assert!(status.success(), "ip {words}");
    }
    tap
}

/// Loops of the guest's script: until a command succeeds or, with `!`, fails.
fn until(command: &str) -> String {
    format!("until {command}; do sleep 0.1; done")
}

struct Story {
    guest: Guest,
}

impl Story {
    fn call(&mut self, method: &str, path: &str, document: Option<Value>, files: &[BorrowedFd<'_>]) -> Value {
        let client = self.guest.client();
        client
            .call(method, path, document.as_ref(), files)
            .unwrap_or_else(|error| panic!("{error}; the console:\n{}", self.guest.console()))
    }

    fn has(&mut self, id: &str) -> bool {
        let devices = self.guest.client().devices().expect("the devices");
        devices.iter().any(|device| device.id == id)
    }

    /// Asks for the device back until the guest has let go of it.
    fn remove(&mut self, id: &str) {
        let answer = self.call("DELETE", &format!("/devices/{id}"), None, &[]);
        assert_eq!(answer, json!({"state": "removing"}));
        let client = self.guest.client();
        self.guest.until("the guest to let go of the device", |_| {
            let devices = client.devices().ok()?;
            devices.iter().all(|device| device.id != id).then_some(())
        });
    }
}

#[test]
fn linux_takes_what_comes_and_lets_go_of_what_shall_go() {
    if !virtual_machines_run_here("linux_takes_what_comes_and_lets_go_of_what_shall_go") {
        return;
    }
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        tell();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn tell() {
    let script = [
        "cd /sys/class/dmi/id; echo dmi: $(cat sys_vendor product_name product_serial product_uuid chassis_vendor); cd /",
        "echo waiting",
        &until("[ -b /dev/vda ]"),
        "echo disk: $(cat /sys/block/vda/size) $(cat /sys/block/vda/serial)",
        "echo written by the guest | dd of=/dev/vda bs=512 conv=sync,fsync 2>/dev/null; echo wrote",
        &until("[ ! -b /dev/vda ]"),
        "echo disk gone",
        &until("[ -d /sys/class/net/eth0 ]"),
        "ip link set eth0 up; ip address add 10.81.0.2/24 dev eth0; ping -c 1 -W 10 10.81.0.1",
        "echo net up",
        &until("[ ! -d /sys/class/net/eth0 ]"),
        "echo net gone",
        &until("echo 1 >/sys/devices/system/cpu/cpu1/online"),
        "echo cpus $(cat /sys/devices/system/cpu/online)",
        &until("[ ! -d /sys/devices/system/cpu/cpu1 ]"),
        "echo cpu gone",
        &until("dmesg | grep 'reseeded due to virtual machine fork'"),
        "poweroff -f",
    ]
    .join("\n");
    let mut story = Story {
        guest: Guest::start(&script, |config| {
            config["cpu"] = json!({"max": 2});
            config["generation_id"] = json!("7c2f4a3e-0f5d-4a52-9d3c-0a8b5a3f1e11");
            config["smbios"] = json!({
                "manufacturer": "Acme", "product": "Anvil", "serial": "S-1",
                "uuid": "00112233-4455-6677-8899-aabbccddeeff",
            });
        }),
    };
    story
        .guest
        .wait_for("dmi: Acme Anvil S-1 00112233-4455-6677-8899-aabbccddeeff Acme");
    story.guest.wait_for("waiting");

    let disk = tempfile::tempfile().expect("a scratch file");
    disk.set_len(1 << 20).expect("make it 1 MiB long");
    let new = json!({"disk": {"id": "new", "path": "fd:0", "serial": "N-1"}});
    story.call("POST", "/devices", Some(new), &[disk.as_fd()]);
    story.guest.wait_for("disk: 2048 N-1");
    story.guest.wait_for("wrote");
    let mut bytes = [0; 20];
    disk.read_exact_at(&mut bytes, 0).expect("read the disk");
    assert_eq!(&bytes, b"written by the guest");
    story.remove("new");
    story.guest.wait_for("disk gone");

    let new = json!({"net": {"id": "eth0", "fd": 0, "mac": "10:66:6a:00:00:01"}});
    story.call("POST", "/devices", Some(new), &[tap().as_fd()]);
    story.guest.wait_for("1 packets received");
    story.guest.wait_for("net up");
    // The disk's slot and the net's are the same.
    assert!(story.has("eth0") && !story.has("new"));
    let forced = story.call("DELETE", "/devices/eth0?force=true", None, &[]);
    assert_eq!(forced, json!({"state": "removed"}));
    story.guest.wait_for("net gone");

    story.call("PUT", "/vcpus", Some(json!({"count": 2})), &[]);
    story.guest.wait_for("cpus 0-1");
    story.call("PUT", "/vcpus", Some(json!({"count": 1})), &[]);
    story.guest.wait_for("cpu gone");
    assert_eq!(story.guest.client().state().expect("the state").vcpus, 1);

    story.call("PUT", "/generation-id", None, &[]);
    let (console, report) = story.guest.end();
    assert_eq!(report["reason"], "poweroff", "{console}");
}
