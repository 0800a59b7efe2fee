use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::test_host::TestHost;

type Socket = WebSocketStream<UnixStream>;

struct Command {
    url: String,
    stdin: Socket,
    outputs: Vec<Socket>,
    control: Socket,
}

async fn begin(host: &TestHost, name: &str, wanted: Value) -> Command {
    let interactive = wanted["interactive"] == true;
    let answer = host
        .api
        .request("POST", &format!("/1.0/instances/{name}/exec"), wanted)
        .await;
    assert_eq!(answer.status, 202, "{}", answer.json());
    let operation = &answer.json()["metadata"];
    assert_eq!(operation["class"], "websocket");
    let url = format!("/1.0/operations/{}", operation["id"].as_str().unwrap());
    let connect = async |socket: &str| {
        let secret = operation["metadata"]["fds"][socket].as_str().unwrap();
        host.api
            .websocket(&format!("{url}/websocket?secret={secret}"))
            .await
    };
    let control = connect("control").await;
    let stdin = connect("0").await;
    let mut outputs = Vec::new();
    if !interactive {
        outputs = vec![connect("1").await, connect("2").await];
    }
    Command {
        url,
        stdin,
        outputs,
        control,
    }
}

/// Everything up to the empty text frame that ends a stream.
async fn read_to_end(socket: &mut Socket) -> String {
    let mut text = Vec::new();
    loop {
        match socket.next().await {
            Some(Ok(Message::Binary(data))) => text.extend_from_slice(&data),
            Some(Ok(Message::Text(data))) => {
                assert_eq!(data.as_str(), "");
                return String::from_utf8(text).unwrap();
            }
            Some(Ok(_)) => {}
            other => panic!("the stream broke off after {text:?}: {other:?}"),
        }
    }
}

async fn status(host: &TestHost, url: &str) -> Value {
    let operation = host.api.get(&format!("{url}/wait")).await;
    assert_eq!(operation["status"], "Success", "{operation}");
    operation["metadata"]["return"].clone()
}

fn plain(command: &[&str]) -> Value {
    json!({ "command": command, "wait-for-websocket": true, "interactive": false, "environment": { "A": "b" } })
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_talk_over_websockets() {
    let host = TestHost::start().await;
    host.launch("c1").await;

    let mut command = begin(
        &host,
        "c1",
        plain(&["sh", "-c", "echo out $A; echo err >&2; exit 3"]),
    )
    .await;
    command.stdin.send(Message::text("")).await.unwrap();
    assert_eq!(read_to_end(&mut command.outputs[0]).await, "out b\n");
    assert_eq!(read_to_end(&mut command.outputs[1]).await, "err\n");
    assert_eq!(status(&host, &command.url).await, 3);

    let mut command = begin(&host, "c1", plain(&["cat"])).await;
    let input = "0123456789abcdef".repeat(64 << 10);
    let (mut reader, sent) = (command.outputs.remove(0), input.clone());
    let feeding = tokio::spawn(async move {
        for chunk in sent.as_bytes().chunks(10_000) {
            command.stdin.send(Message::binary(chunk.to_vec())).await.unwrap();
        }
        command.stdin.send(Message::text("")).await.unwrap();
        command
    });
    assert!(
        read_to_end(&mut reader).await == input,
        "a mebibyte comes back as it went"
    );
    let command = feeding.await.unwrap();
    assert_eq!(status(&host, &command.url).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_and_missing_commands_have_a_shells_status() {
    let host = TestHost::start().await;
    host.launch("c1").await;
    let mut command = begin(&host, "c1", plain(&["sleep", "1000"])).await;
    let signal = json!({ "command": "signal", "args": null, "signal": 15 }).to_string();
    command.control.send(Message::text(signal)).await.unwrap();
    assert_eq!(status(&host, &command.url).await, 143);

    let mut command = begin(&host, "c1", plain(&["no-such-command"])).await;
    read_to_end(&mut command.outputs[0]).await;
    assert_eq!(status(&host, &command.url).await, 127);

    // A client that goes away takes its command with it.
    let command = begin(&host, "c1", plain(&["sleep", "12345"])).await;
    let url = command.url.clone();
    drop(command);
    assert_eq!(status(&host, &url).await, 137);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_has_a_size_and_can_be_resized() {
    let host = TestHost::start().await;
    host.launch("c1").await;
    let mut wanted = plain(&["stty", "size"]);
    wanted["interactive"] = json!(true);
    let mut command = begin(&host, "c1", wanted.clone()).await;
    assert_eq!(read_to_end(&mut command.stdin).await, "25 80\r\n");
    assert_eq!(status(&host, &command.url).await, 0);

    wanted["command"] = json!([
        "sh",
        "-c",
        "trap 'stty size; exit 4' WINCH; echo ready; while :; do sleep 0.1; done"
    ]);
    wanted["width"] = json!(100);
    let mut command = begin(&host, "c1", wanted).await;
    let resize =
        json!({ "command": "window-resize", "args": { "width": "132", "height": "43" } }).to_string();
    loop {
        match command.stdin.next().await {
            Some(Ok(Message::Binary(data))) if data.starts_with(b"ready") => break,
            Some(Ok(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    command.control.send(Message::text(resize)).await.unwrap();
    let rest = read_to_end(&mut command.stdin).await;
    assert!(rest.contains("43 132"), "{rest:?}");
    assert_eq!(status(&host, &command.url).await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_console_speaks_and_is_remembered() {
    let host = TestHost::start().await;
    host.launch("c1").await;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let log = host
            .api
            .request("GET", "/1.0/instances/c1/console", Value::Null)
            .await;
        if String::from_utf8_lossy(&log.body).contains("system is up") {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{:?}", log.body);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let answer = host
        .api
        .request("POST", "/1.0/instances/c1/console", json!({ "type": "console" }))
        .await;
    let operation = answer.json()["metadata"].clone();
    let url = format!("/1.0/operations/{}/websocket", operation["id"].as_str().unwrap());
    let secret = |name: &str| operation["metadata"]["fds"][name].as_str().unwrap().to_owned();
    let mut console = host.api.websocket(&format!("{url}?secret={}", secret("0"))).await;
    let _control = host
        .api
        .websocket(&format!("{url}?secret={}", secret("control")))
        .await;
    host.run("c1", &["sh", "-c", "echo hello console >/dev/console"])
        .await;
    let mut heard = String::new();
    while !heard.contains("hello console") {
        match tokio::time::timeout(std::time::Duration::from_secs(20), console.next())
            .await
            .unwrap()
        {
            Some(Ok(Message::Binary(data))) => heard.push_str(&String::from_utf8_lossy(&data)),
            Some(Ok(_)) => {}
            other => panic!("{heard:?} {other:?}"),
        }
    }
    assert_eq!(
        host.api
            .request("DELETE", "/1.0/instances/c1/console", Value::Null)
            .await
            .status,
        200
    );
    assert!(
        host.api
            .request("GET", "/1.0/instances/c1/console", Value::Null)
            .await
            .body
            .is_empty()
    );
}
