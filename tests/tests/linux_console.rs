//! Linux on the virtio console: terminals with sizes, and channels with names.

#![allow(clippy::expect_used, reason = "a step that fails fails the test")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use end_to_end::{Guest, virtual_machines_run_here};
use serde_json::json;

fn connect(guest: &Guest, socket: &str) -> UnixStream {
    let stream = UnixStream::connect(guest.run_dir().join(socket)).expect("the port's socket");
    let patience = Some(Duration::from_secs(60));
    stream.set_read_timeout(patience).expect("a timeout");
    stream
}

#[test]
fn linux_finds_its_ports_by_their_names_and_talks_through_them() {
    if !virtual_machines_run_here("linux_finds_its_ports_by_their_names_and_talks_through_them") {
        return;
    }
    // Ports come while the guest runs already. Reading finds the end where there is no client.
    let script = "cd /sys/class/virtio-ports
        named() { grep -lx $1 */name 2>/dev/null | cut -d/ -f1; }
        until [ \"$(named org.example.agent.0)\" ] && [ \"$(named second)\" ]; do sleep 0.1; done
        seq 400000 >/numbers
        exec 3<>/dev/$(named org.example.agent.0)
        echo ready
        until read first <&3; do sleep 0.1; done
        echo got $first
        cat /numbers >&3
        head -c 2688895 <&3 | md5sum
        echo all
        read line; poweroff -f";
    let mut guest = Guest::start(script, |config| {
        config["console"] = true.into();
        config["console_ports"] = json!([
            {"name": "org.example.agent.0", "socket": "agent.sock"},
            {"name": "second", "socket": "second.sock", "terminal": true},
        ]);
    });
    guest.wait_for("ready");
    let mut agent = connect(&guest, "agent.sock");
    writeln!(agent, "hello").expect("write to the guest");
    // Each way more than the buffers between the two hold.
    let numbers: String = (1..=400_000).map(|number| format!("{number}\n")).collect();
    let mut heard = vec![0; numbers.len()];
    agent.read_exact(&mut heard).expect("read from the guest");
    assert!(heard == numbers.as_bytes(), "the guest's bytes are others");
    agent.write_all(numbers.as_bytes()).expect("write to the guest");
    // What is on its way arrives though this end is gone.
    drop(agent);
    guest.wait_for("all");
    guest.type_line("");
    let (console, report) = guest.end();
    assert_eq!(report["reason"], "poweroff", "{report} {console}");
    for line in ["got hello", "9661da04da603a826131297f907b45fb"] {
        assert!(console.contains(line), "{line}: {console}");
    }
}

#[test]
fn terminals_of_linux_have_the_size_that_they_are_told() {
    if !virtual_machines_run_here("terminals_of_linux_have_the_size_that_they_are_told") {
        return;
    }
    // A terminal has its size while somebody has it open.
    let script = "for terminal in hvc0 hvc1; do
            until (: <>/dev/$terminal) 2>/dev/null; do sleep 0.1; done
        done
        exec 4<>/dev/hvc0 5<>/dev/hvc1
        until [ \"$(stty size <&4)\" = '24 80' ]; do sleep 0.1; done; echo first
        until [ \"$(stty size <&4)\" = '50 132' ]; do sleep 0.1; done; echo second
        echo said >&5
        until [ \"$(stty size <&5)\" = '40 100' ]; do sleep 0.1; done; echo third
        poweroff -f";
    for several in [false, true] {
        let script = match several {
            true => script.to_owned(),
            false => script.replace("hvc1", "hvc0").replace("40 100", "50 132"),
        };
        let mut guest = Guest::start(&script, |config| {
            config["console"] = true.into();
            if several {
                config["console_ports"] =
                    json!([{"name": "second", "socket": "second.sock", "terminal": true}]);
            }
        });
        guest.wait_for("first");
        let client = guest.client();
        let mut second = several.then(|| connect(&guest, "second.sock"));
        let resize = |update| client.update_device("console", &update).expect("a new size");
        resize(json!({"columns": 132, "rows": 50}));
        guest.wait_for("second");
        if let Some(second) = &mut second {
            resize(json!({"port": "second", "columns": 100, "rows": 40}));
            let mut said = [0; 4];
            second.read_exact(&mut said).expect("the second terminal's words");
            assert_eq!(&said, b"said");
        }
        let (console, report) = guest.end();
        assert_eq!(report["reason"], "poweroff", "{report} {console}");
        assert!(console.contains("third"), "{console}");
    }
}
