//! The whole conversation of the unmodified incus client with the daemon, told
//! once and run for a container and for a microVM.

#![allow(clippy::expect_used, reason = "a step that fails fails the test")]

use end_to_end::{Host, Kind, virtual_machines_run_here};

/// Waits until a command in the instance works: the agent of a VM needs a moment.
fn wait_until_ready(host: &mut Host, name: &str) {
    host.wait_for("the instance's agent", |host| {
        host.incus().call(&["exec", "-n", name, "--", "true"]).status == 0
    });
}

fn conversation(kind: Kind) {
    let mut host = Host::start();
    let incus = host.incus();
    let image = std::env::var("VIRGA_TEST_BUSYBOX_IMAGE").expect("VIRGA_TEST_BUSYBOX_IMAGE");

    // Images
    let imported = incus.ok(&["image", "import", &image, "--alias", "bb"]);
    assert!(imported.contains("Image imported with fingerprint"), "{imported}");
    let images = incus.json(&["image", "list", "--format", "json"]);
    assert_eq!(images[0]["aliases"][0]["name"], "bb");
    let info = incus.ok(&["image", "info", "bb"]);
    assert!(info.contains("Architecture: x86_64"), "{info}");

    // Launch, list, info
    // The client makes a VM only of an image of that type: `ALIAS/vm` is a container image as a microVM's.
    let wanted = if kind == Kind::VirtualMachine {
        "bb/vm"
    } else {
        "bb"
    };
    let mut launch = vec!["launch", wanted, "i1"];
    launch.extend(kind.launch_options());
    incus.ok(&launch);
    wait_until_ready(&mut host, "i1");
    let list = incus.json(&["list", "--format", "json"]);
    assert_eq!(list[0]["name"], "i1");
    assert_eq!(list[0]["status"], "Running");
    assert_eq!(list[0]["type"], kind.api_type());
    let shown = incus.ok(&["list"]);
    assert!(shown.contains("RUNNING") && shown.contains("i1"), "{shown}");
    let info = incus.ok(&["info", "i1"]);
    assert!(
        info.contains("Status: RUNNING") && info.contains("Processes:"),
        "{info}"
    );
    host.wait_for("an IPv4 address in the list", |host| {
        let state = host.state_of("i1");
        state["network"]["eth0"]["addresses"]
            .as_array()
            .is_some_and(|list| {
                list.iter()
                    .any(|address| address["family"] == "inet" && address["scope"] == "global")
            })
    });

    // Commands: separate streams, input to its end, exit status, environment, user and folder
    let outcome = incus.call(&[
        "exec",
        "-n",
        "i1",
        "--",
        "sh",
        "-c",
        "echo out; echo err >&2; exit 3",
    ]);
    assert_eq!(
        (outcome.stdout.as_str(), outcome.stderr.as_str(), outcome.status),
        ("out\n", "err\n", 3)
    );
    let outcome = incus.call_with_input(&["exec", "i1", "--", "tr", "a-z", "A-Z"], b"hello\n");
    assert_eq!(outcome.expect_success(), "HELLO\n");
    assert_eq!(
        incus.ok(&[
            "exec",
            "-n",
            "i1",
            "--env",
            "COLOUR=blue",
            "--",
            "sh",
            "-c",
            "echo $COLOUR"
        ]),
        "blue\n"
    );
    assert_eq!(
        incus.ok(&[
            "exec",
            "-n",
            "i1",
            "--user",
            "1000",
            "--cwd",
            "/tmp",
            "--",
            "sh",
            "-c",
            "id -u; pwd"
        ]),
        "1000\n/tmp\n"
    );
    assert_eq!(
        incus.call(&["exec", "-n", "i1", "--", "no-such-command"]).status,
        127
    );
    assert_eq!(incus.ok(&["exec", "-n", "i1", "--", "hostname"]), "i1\n");
    let big = incus.ok(&[
        "exec",
        "-n",
        "i1",
        "--",
        "sh",
        "-c",
        "yes 0123456789 | head -c 3000000",
    ]);
    assert_eq!(big.len(), 3_000_000);

    // Configuration
    incus.ok(&["config", "set", "i1", "user.note=some words"]);
    assert_eq!(incus.ok(&["config", "get", "i1", "user.note"]), "some words\n");
    let config = incus.ok(&["config", "show", "i1"]);
    assert!(config.contains("user.note: some words"), "{config}");
    incus.refused(&["config", "set", "i1", "no.such.key=1"], "no.such.key");

    // Files
    let file = host.scratch().join("file");
    let content: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    std::fs::write(&file, &content).expect("write a file");
    incus.ok(&["file", "push", &file.to_string_lossy(), "i1/root/pushed"]);
    let back = host.scratch().join("back");
    incus.ok(&["file", "pull", "i1/root/pushed", &back.to_string_lossy()]);
    assert!(
        std::fs::read(&back).expect("the pulled file") == content,
        "the file came back changed"
    );

    // Snapshots: what is changed after one is undone by going back to it
    incus.ok(&[
        "exec",
        "-n",
        "i1",
        "--",
        "sh",
        "-c",
        "echo one > /root/state; sync",
    ]);
    incus.ok(&["stop", "i1", "--timeout", "90"]);
    assert_eq!(incus.json(&["list", "--format", "json"])[0]["status"], "Stopped");
    incus.ok(&["snapshot", "create", "i1", "s1"]);
    let snapshots = incus.ok(&["snapshot", "list", "i1", "--format", "csv"]);
    assert!(snapshots.starts_with("s1,"), "{snapshots}");
    incus.ok(&["start", "i1"]);
    wait_until_ready(&mut host, "i1");
    incus.ok(&[
        "exec",
        "-n",
        "i1",
        "--",
        "sh",
        "-c",
        "echo two > /root/state; sync",
    ]);
    incus.ok(&["stop", "--force", "i1"]);
    incus.ok(&["snapshot", "restore", "i1", "s1"]);
    incus.ok(&["start", "i1"]);
    wait_until_ready(&mut host, "i1");
    assert_eq!(
        incus.ok(&["exec", "-n", "i1", "--", "cat", "/root/state"]),
        "one\n"
    );
    incus.ok(&["snapshot", "delete", "i1", "s1"]);
    assert_eq!(incus.ok(&["snapshot", "list", "i1", "--format", "csv"]), "");

    // The rest of the daemon
    assert!(incus.ok(&["network", "list"]).contains("virgabr0"));
    assert!(incus.ok(&["storage", "list"]).contains("default"));
    assert!(incus.ok(&["profile", "list"]).contains("default"));
    assert!(incus.ok(&["profile", "show", "default"]).contains("eth0"));
    incus.ok(&["operation", "list"]);
    let queried = incus.json(&["query", "/1.0/instances?recursion=1"]);
    assert_eq!(queried[0]["name"], "i1");

    // A running instance is not deleted without force
    incus.refused(&["delete", "i1"], "running");
    incus.ok(&["delete", "--force", "i1"]);
    assert_eq!(incus.json(&["list", "--format", "json"]), serde_json::json!([]));
    incus.ok(&["image", "delete", "bb"]);
    assert_eq!(host.supervisors(), []);
    assert_eq!(host.mounts(), Vec::<String>::new());
    assert_eq!(host.links(), ["virgabr0"]);
}

#[test]
fn the_incus_client_lives_with_a_container() {
    conversation(Kind::Container);
}

#[test]
fn the_incus_client_lives_with_a_virtual_machine() {
    if virtual_machines_run_here("the_incus_client_lives_with_a_virtual_machine") {
        conversation(Kind::VirtualMachine);
    }
}

#[test]
fn monitor_shows_the_life_of_an_instance() {
    let mut host = Host::start();
    host.import_busybox();
    let log = host.scratch().join("events");
    let output = std::fs::File::create(&log).expect("a file for events");
    let mut monitor = host
        .incus()
        .command(&["monitor", "--type", "lifecycle", "--format", "json"])
        .stdout(output)
        .spawn()
        .expect("incus monitor");
    // Until the stream is there, instances come and go unseen: make one until the first event is.
    let mut round = 0;
    host.wait_for("the first event", |host| {
        round += 1;
        let name = format!("m{round}");
        host.incus().ok(&["launch", "bb", &name]);
        host.incus().ok(&["delete", "--force", &name]);
        std::fs::read_to_string(&log).is_ok_and(|text| text.contains("instance-deleted"))
    });
    monitor.kill().expect("end the monitor");
    monitor.wait().expect("wait for the monitor");
    let text = std::fs::read_to_string(&log).expect("events");
    for action in ["instance-created", "instance-started", "instance-deleted"] {
        assert!(text.contains(action), "{action} is not in: {text}");
    }
}
