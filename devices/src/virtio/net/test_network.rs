//! A network of the test's own: a thread in a network namespace, where links are made with `ip`. Nothing leaves it.

use super::header::HEADER_LEN;
use super::tests::config;
use super::{Net, Tap};
use crate::testing::Harness;
use std::process::Command;

/// Runs a story in a network of its own, with a `/sys` that shows it. Without the right to make one there is no story to
/// tell.
pub(super) fn in_own_network(story: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        let taps = std::path::Path::new("/dev/net/tun").exists();
        // SAFETY: affects this thread only, which ends with the story.
        if !taps || unsafe { libc::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWNS) } != 0 {
            eprintln!("skipped: no right to make a network namespace, or no taps");
            return;
        }
        run("mount", "--make-rprivate /");
        run("mount", "-t sysfs sysfs /sys");
        story();
    });
    thread.join().unwrap();
}

fn run(program: &str, words: &str) {
    let status = Command::new(program)
        .args(words.split_whitespace())
        .status()
        .unwrap();
    assert!(status.success(), "{program} {words}");
}

/// `ip` with these words.
pub(super) fn ip(words: &str) {
    run("ip", words);
}

/// Gives a link an address and tells the host where its guest is.
pub(super) fn configure(link: &str, address: &str, guest: &str) {
    ip(&format!("address add {address}/24 dev {link}"));
    ip(&format!("link set {link} up"));
    ip(&format!(
        "neighbour replace {guest} lladdr {} dev {link}",
        config().mac
    ));
}

/// A file of `/sys`, without the line's end.
pub(super) fn sys(path: &str) -> String {
    let text = std::fs::read_to_string(format!("/sys/class/net/{path}")).unwrap();
    text.trim_end().to_owned()
}

/// A card on these queues of a link.
pub(super) fn card(taps: Vec<Tap>, features: u64) -> Harness {
    Harness::new(Net::new(config(), taps).unwrap(), features)
}

/// An Ethernet frame to everyone, with header, with an IPv4/UDP packet from port 4660 without UDP checksum.
pub(super) fn udp_frame(from: [u8; 4], to: [u8; 4], port: u16, payload: &[u8]) -> Vec<u8> {
    let udp_len = 8 + payload.len() as u16;
    let mut ip = [&[0x45, 0, 0, 0, 0, 1, 0, 0, 64, 17, 0, 0][..], &from, &to].concat();
    ip[2..4].copy_from_slice(&(20 + udp_len).to_be_bytes());
    let sum: u32 = ip
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut udp = vec![0x12, 0x34];
    udp.extend(port.to_be_bytes());
    udp.extend(udp_len.to_be_bytes());
    udp.extend([0, 0]);
    let ethernet = [&[0xff; 6][..], &config().mac.0, &[8, 0]].concat();
    [&[0; HEADER_LEN][..], &ethernet, &ip, &udp, payload].concat()
}
