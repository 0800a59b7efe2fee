//! Linux' driver on a network device with two pairs of queues; the host's end is a tap in a network of the test's own.

#![allow(clippy::expect_used, reason = "a step that fails fails the test")]

use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Stdio};

use end_to_end::network::{bulk, in_own_network, ip, receive, send};
use end_to_end::{Guest, virtual_machines_run_here};
use serde_json::{Value, json};

const MAC: &str = "10:66:6a:00:00:01";

/// A guest with two vCPUs and a card; `script` runs once the card is up.
fn guest(script: &str) -> Guest {
    let script = format!(
        "ip link set eth0 up; ip address add 10.80.0.2/24 dev eth0
        {script}
        poweroff -f"
    );
    Guest::start(&script, |config| {
        config["vcpus"] = json!(2);
        config["nets"] = json!([{"id": "eth0", "tap": "tap0", "mac": MAC, "mtu": 1400, "queue_pairs": 2}]);
    })
}

fn checksum(bytes: &[u8]) -> String {
    let mut sum = Command::new("md5sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("md5sum");
    // Dropping the pipe ends the input.
    let written = sum.stdin.take().expect("a pipe").write_all(bytes);
    written.expect("write to md5sum");
    let output = sum.wait_with_output().expect("wait for md5sum");
    let text = String::from_utf8_lossy(&output.stdout);
    text.split(' ').next().expect("a sum").to_owned()
}

fn counter(metrics: &Value, name: &str) -> u64 {
    metrics[name].as_u64().expect("a counter")
}

/// Segmentation is left to the receiver: a frame has more than a packet of the link may have.
fn unsegmented(metrics: &Value, direction: &str) {
    let [bytes, frames] = ["bytes", "frames"].map(|what| counter(metrics, &format!("{direction}_{what}")));
    assert!(
        bytes / frames > 1400,
        "{direction} {bytes} bytes in {frames} frames: {metrics}"
    );
}

#[test]
fn linux_moves_data_both_ways_over_two_pairs_of_queues() {
    if !virtual_machines_run_here("linux_moves_data_both_ways_over_two_pairs_of_queues") {
        return;
    }
    in_own_network("tap multi_queue", || {
        ip("link set tap0 mtu 1400");
        let listener = TcpListener::bind("10.80.0.1:5000").expect("listen");
        let data = bulk();
        let mut guest = guest(
            "echo mtu $(cat /sys/class/net/eth0/mtu) queues $(ls /sys/class/net/eth0/queues)
            ping -c 2 -W 10 10.80.0.1
            nc 10.80.0.1 5000 </dev/null >/in; md5sum </in
            nc 10.80.0.1 5000 </dev/null
            nc 10.80.0.1 5000 </in & nc 10.80.0.1 5000 </in & wait; echo sent; sleep 1000",
        );
        send(&listener, &data);
        // The guest goes on when this one is closed.
        let (go_on, _) = listener.accept().expect("a connection");
        let client = guest.client();
        let metrics = || client.metrics().expect("metrics").devices["eth0"].clone();
        unsegmented(&metrics(), "received");
        drop(go_on);
        std::thread::scope(|scope| {
            for sender in [(); 2].map(|()| scope.spawn(|| receive(&listener))) {
                assert_eq!(sender.join().expect("received"), data);
            }
        });
        guest.wait_for("sent");
        let console = guest.console();
        assert!(
            console.contains("mtu 1400 queues rx-0 rx-1 tx-0 tx-1"),
            "{console}"
        );
        assert!(console.contains("2 packets received"), "{console}");
        assert!(console.contains(&checksum(&data)), "{console}");
        let driver = client.update_device("eth0", &json!({}));
        let driver = driver.expect("the state of the device")["driver"].clone();
        assert_eq!(driver["active_pairs"], 2);
        // Linux sees its own frames and those of its groups, once it is up.
        assert_eq!(driver["filter"]["promiscuous"], false, "{driver}");
        assert_ne!(driver["filter"]["multicast"]["addresses"], json!([]), "{driver}");
        let metrics = metrics();
        unsegmented(&metrics, "transmitted");
        for pair in 0..2 {
            assert!(
                counter(&metrics["pairs"][pair], "transmitted_frames") > 0,
                "{metrics}"
            );
        }
        assert_eq!(
            (
                counter(&metrics, "receive_drops"),
                counter(&metrics, "transmit_drops")
            ),
            (0, 0)
        );
    });
}

#[test]
fn linux_sees_the_cable_and_tells_the_card_what_it_wants() {
    if !virtual_machines_run_here("linux_sees_the_cable_and_tells_the_card_what_it_wants") {
        return;
    }
    in_own_network("tap multi_queue", || {
        ip("link set tap0 mtu 1400");
        let mut guest = guest(
            "carrier() { while [ $(cat /sys/class/net/eth0/carrier) != $1 ]; do sleep 0.1; done; echo carrier $1; }
            carrier 1; carrier 0; carrier 1
            ip link set eth0 address 02:00:00:00:00:05; ping -c 1 -W 10 10.80.0.1
            ip link set eth0 promisc on; echo changed; sleep 1000",
        );
        let client = guest.client();
        guest.wait_for("carrier 1");
        let update = |update: Value| client.update_device("eth0", &update).expect("an update");
        assert_eq!(update(json!({"link_up": false}))["link_up"], false);
        guest.wait_for("carrier 0");
        update(json!({"link_up": true}));
        guest.wait_for("changed");
        let console = guest.console();
        assert!(console.contains("1 packets received"), "{console}");
        let filter = update(json!({}))["driver"]["filter"].clone();
        assert_eq!(filter["mac"], json!([2, 0, 0, 0, 0, 5]));
        guest.until("promiscuous mode", |_| {
            (update(json!({}))["driver"]["filter"]["promiscuous"] == true).then_some(())
        });
        // The driver takes note of the request once it has announced itself.
        assert_eq!(update(json!({"announce": true}))["driver"]["announce"], true);
        guest.until("the announcement", |_| {
            (update(json!({}))["driver"]["announce"] == false).then_some(())
        });
    });
}
