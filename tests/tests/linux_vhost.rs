//! Linux on devices that others serve to our own VMM: network cards by the host's kernel, cards and disks by `virga-vhost-user`.

#![allow(clippy::expect_used, reason = "a step that fails fails the test")]

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use end_to_end::network::{exchange, in_own_network};
use end_to_end::{BACK_END_USER, BackEnd, Guest, skipped, virtual_machines_run_here};
use serde_json::{Value, json};

const MAC: &str = "10:66:6a:00:00:01";

/// Brings the card up, and sends back what is received.
const SCRIPT: &str = "ip link set eth0 up; ip address add 10.80.0.2/24 dev eth0
    ping -c 2 -W 10 10.80.0.1
    nc 10.80.0.1 5000 </dev/null >/in; nc 10.80.0.1 5000 </in";

#[test]
fn linux_moves_data_by_the_hosts_kernel() {
    const NAME: &str = "linux_moves_data_by_the_hosts_kernel";
    if !virtual_machines_run_here(NAME) {
        return;
    }
    // It may be built in, or be loaded already.
    let _ = Command::new("modprobe").arg("vhost_net").status();
    if !Path::new("/dev/vhost-net").exists() {
        skipped(NAME, "the host has no vhost-net");
        return;
    }
    in_own_network("tap", || {
        let listener = TcpListener::bind("10.80.0.1:5000").expect("listen");
        let mut guest = Guest::start(&format!("{SCRIPT}\necho moved; sleep 1000"), |config| {
            config["nets"] = json!([{"id": "eth0", "tap": "tap0", "mac": MAC, "vhost": true}]);
        });
        exchange(&listener);
        guest.wait_for("moved");
        let console = guest.console();
        assert!(console.contains("2 packets received"), "{console}");
        let metrics = guest.client().metrics().expect("metrics").devices["eth0"].clone();
        // No interrupt took the way through the VMM.
        assert_eq!(
            (&metrics["relayed_interrupts"], &metrics["queue_errors"]),
            (&json!(0), &json!(0))
        );
    });
}

#[test]
fn linux_moves_data_by_a_back_end_that_dies_and_returns() {
    if !virtual_machines_run_here("linux_moves_data_by_a_back_end_that_dies_and_returns") {
        return;
    }
    in_own_network("tap", || {
        let folder = tempfile::tempdir().expect("a scratch directory");
        let device = json!({"net": {"id": "eth0", "tap": "tap0", "mac": MAC}});
        let back_end = BackEnd::start(folder.path(), &device);
        let listener = TcpListener::bind("10.80.0.1:5000").expect("listen");
        let script = format!("{SCRIPT}\nnc -l -p 6000 & echo waiting; wait; echo ended; poweroff -f");
        let mut guest = Guest::start(&script, |config| {
            config["memory"] = json!({"shared": true});
            config["sandbox"] = json!({"uid": BACK_END_USER});
            let socket = BackEnd::socket(folder.path());
            config["nets"] = json!([{"id": "eth0", "mac": MAC, "vhost_user": socket}]);
        });
        exchange(&listener);
        guest.wait_for("waiting");

        let client = guest.client();
        let metrics = || client.metrics().expect("metrics").devices["eth0"].clone();
        drop(back_end);
        guest.until("the loss", |_| (metrics()["disconnects"] == 1).then_some(()));
        let _next = BackEnd::start(folder.path(), &device);
        guest.until("the return", |_| (metrics()["reconnects"] == 1).then_some(()));
        let mut late = guest.until("a connection", |_| TcpStream::connect("10.80.0.2:6000").ok());
        late.write_all(b"after the death").expect("send to the guest");
        drop(late);
        guest.wait_for("ended");
        let console = guest.console();
        assert!(console.contains("2 packets received"), "{console}");
        assert!(console.contains("after the death"), "{console}");
    });
}

/// Serves a disk of the folder to a guest, which runs the script.
fn guest_of_disk(folder: &Path, script: &str, change: impl FnOnce(&mut Value)) -> Guest {
    Guest::start(script, |config| {
        config["memory"] = json!({"shared": true});
        config["sandbox"] = json!({"uid": BACK_END_USER});
        config["disks"] = json!([{"id": "d", "vhost_user": BackEnd::socket(folder), "queues": 2}]);
        change(config);
    })
}

fn output(program: &str, arguments: &[&str], path: &Path) -> String {
    let output = Command::new(program).args(arguments).arg(path).output();
    let output = output.expect("run a program");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program}: {text}");
    text
}

#[test]
fn linux_keeps_its_files_on_a_disk_whose_back_end_is_killed_while_it_writes() {
    if !virtual_machines_run_here("linux_keeps_its_files_on_a_disk_whose_back_end_is_killed_while_it_writes")
    {
        return;
    }
    let folder = tempfile::tempdir().expect("a scratch directory");
    let path = folder.path().join("disk");
    let file = std::fs::File::create(&path).expect("make a disk");
    file.set_len(1 << 30).expect("give it a size");
    let device = json!({"disk": {"id": "d", "path": "disk", "queues": 2}});
    let mut back_end = BackEnd::start(folder.path(), &device);
    let script = "mke2fs /dev/vda >/dev/null; mkdir /d; mount -t ext4 /dev/vda /d; echo mounted $(ls /sys/block/vda/mq)
        write() { while [ ! -e /stop ]; do
            n=$((n+1)); dd if=/dev/urandom of=/d/$1.$n bs=64k count=8 conv=fsync 2>/dev/null
            (cd /d; md5sum $1.$n >>/sums.$1); echo wrote $1.$n; done; }
        write a & write b & read line; touch /stop; wait
        umount /d; mount -t ext4 -o ro /dev/vda /d; cd /d
        md5sum -c /sums.a /sums.b >/verdict && echo intact $(wc -l </verdict); cd /; umount /d; poweroff -f";
    let mut guest = guest_of_disk(folder.path(), script, |config| config["vcpus"] = json!(2));
    let client = guest.client();
    let metrics = || client.metrics().expect("metrics").devices["d"].clone();
    guest.wait_for("mounted 0 1");
    let wrote = |guest: &Guest| guest.console().matches("wrote").count();
    for round in 1..=3 {
        let before = wrote(&guest);
        guest.until("files", |guest| (wrote(guest) >= before + 4).then_some(()));
        drop(back_end);
        guest.until("the loss", |_| (metrics()["disconnects"] == round).then_some(()));
        back_end = BackEnd::start(folder.path(), &device);
        guest.until("the return", |_| (metrics()["reconnects"] == round).then_some(()));
    }
    let written = wrote(&guest);
    guest.until("files after that", |guest| (wrote(guest) > written).then_some(()));
    guest.type_line("stop");
    let (console, _) = guest.end();
    let intact = format!("intact {}", console.matches("wrote").count());
    assert!(console.contains(&intact), "{console}");
    output("e2fsck", &["-f", "-n"], &path);
}

#[test]
fn linux_has_a_back_end_work_on_memory_that_came_while_it_ran() {
    const MIB: usize = 1 << 20;
    if !virtual_machines_run_here("linux_has_a_back_end_work_on_memory_that_came_while_it_ran") {
        return;
    }
    let folder = tempfile::tempdir().expect("a scratch directory");
    let path = folder.path().join("disk");
    let pieces = (0..160u8).map(|piece| vec![piece; MIB]);
    std::fs::write(&path, pieces.collect::<Vec<_>>().concat()).expect("make a disk");
    let device = json!({"disk": {"id": "d", "path": "disk", "queues": 2}});
    let _back_end = BackEnd::start(folder.path(), &device);
    // The page cache takes more than all memory that there was at first, and keeps it while the disk is open.
    let script = "echo online >/sys/devices/system/memory/auto_online_blocks; echo started
        while [ $(awk '/MemTotal/ {print $2}' /proc/meminfo) -lt 280000 ]; do sleep 0.2; done
        exec 3</dev/vda; md5sum </dev/vda
        echo cached $(awk '/^Cached|^Buffers/ {sum += $2} END {print sum}' /proc/meminfo); poweroff -f";
    let mut guest = guest_of_disk(folder.path(), script, |config| {
        config["memory_bytes"] = json!(128 * MIB);
        config["memory"] = json!({"shared": true, "hotplug": {"max_bytes": 512 * MIB}});
    });
    let client = guest.client();
    guest.wait_for("started");
    let update = json!({"requested_bytes": 256 * MIB});
    client.update_device("memory", &update).expect("a new size");
    let (console, _) = guest.end();
    let cached = console
        .lines()
        .find_map(|line| line.trim().strip_prefix("cached "));
    let cached: usize = cached.and_then(|kib| kib.parse().ok()).unwrap_or(0);
    assert!(cached * 1024 > 128 * MIB, "{console}");
    let sum = output("md5sum", &[], &path);
    let sum = sum.split(' ').next().expect("a sum");
    assert!(console.contains(sum), "{console}");
}
