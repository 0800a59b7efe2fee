use serde_json::{Value, json};

use crate::test_host::TestHost;

async fn push(host: &TestHost, path: &str, headers: &[(&str, &str)], content: &str) {
    let url = format!("/1.0/instances/c1/files?path={path}");
    let answer = host
        .api
        .try_request("POST", &url, headers, content.as_bytes().to_vec())
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{}", answer.json());
}

async fn check_files(host: &TestHost) {
    push(
        host,
        "/root/note",
        &[("x-incus-uid", "5"), ("x-incus-mode", "0640")],
        "first\n",
    )
    .await;
    push(host, "/root/note", &[("x-incus-write", "append")], "second\n").await;
    let url = "/1.0/instances/c1/files?path=/root/note";
    let answer = host.api.request("GET", url, Value::Null).await;
    assert_eq!(answer.body, "first\nsecond\n");
    let header = |name: &str| answer.headers[name].to_str().unwrap();
    assert_eq!(
        (
            header("x-incus-uid"),
            header("x-incus-mode"),
            header("x-incus-type")
        ),
        ("5", "0640", "file")
    );
    push(host, "/root/dir", &[("x-incus-type", "directory")], "").await;
    push(host, "/root/link", &[("x-incus-type", "symlink")], "note").await;
    let listing = host
        .api
        .request("GET", "/1.0/instances/c1/files?path=/root", Value::Null)
        .await;
    assert_eq!(listing.json()["metadata"], json!(["dir", "link", "note"]));
    for name in ["dir", "link", "note"] {
        let url = format!("/1.0/instances/c1/files?path=/root/{name}");
        assert_eq!(host.api.request("DELETE", &url, Value::Null).await.status, 200);
    }
    assert_eq!(host.api.request("GET", url, Value::Null).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_pushed_and_pulled_whether_the_container_runs_or_not() {
    let host = TestHost::start().await;
    host.api
        .succeed("POST", "/1.0/instances", TestHost::container("c1", false))
        .await;
    check_files(&host).await;
    host.set_state("c1", "start", false).await;
    check_files(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn links_in_a_stopped_container_do_not_lead_out_of_it() {
    let host = TestHost::start().await;
    host.api
        .succeed("POST", "/1.0/instances", TestHost::container("c1", false))
        .await;
    let secret = host.state_dir().join("secret");
    std::fs::write(&secret, "of the host").unwrap();
    let root = host
        .state_dir()
        .join("storage-pools/default/containers/c1/rootfs");
    std::os::unix::fs::symlink(&secret, root.join("escape")).unwrap();
    std::os::unix::fs::symlink("../../../../../../../../..", root.join("up")).unwrap();
    // What the link leads to does not exist inside; the link itself may be shown.
    let answer = host
        .api
        .request("GET", "/1.0/instances/c1/files?path=/escape", Value::Null)
        .await;
    assert!(!String::from_utf8_lossy(&answer.body).contains("of the host"));
    let answer = host
        .api
        .request("GET", "/1.0/instances/c1/files?path=/up/etc/passwd", Value::Null)
        .await;
    assert_eq!(answer.body, "root:x:0:0:root:/root:/bin/sh\n");
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "of the host");
}
