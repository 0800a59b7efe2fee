//! Descriptors of a request in its document.

use super::*;
use std::os::fd::AsFd;

fn offer(count: usize) -> Offered {
    let null = std::fs::File::open("/dev/null").unwrap();
    let copies = (0..count).map(|_| null.as_fd().try_clone_to_owned().unwrap());
    Offered::new(&mut Files::from_iter(copies))
}

#[test]
fn the_requests_numbers_become_ours() {
    let offered = offer(3);
    let [a, b, c] = offered.0[..] else {
        panic!("{:?}", offered.0)
    };
    let mut value = json!({
        "disk": {"id": "fd", "path": "fd:1", "backing": ["fd:0"], "queues": 2},
        "net": {"fds": [2, 0], "limits": {"fd": 1}, "tap": null},
    });
    offered.rename(&mut value).unwrap();
    let expected = json!({
        "disk": {"id": "fd", "path": format!("fd:{b}"), "backing": [format!("fd:{a}")], "queues": 2},
        "net": {"fds": [c, a], "limits": {"fd": b}, "tap": null},
    });
    assert_eq!(value, expected);
}

#[test]
fn numbers_that_did_not_come_are_refused() {
    let offered = offer(1);
    for wrong in [
        json!({"path": "fd:1"}),
        json!({"path": "fd:"}),
        json!({"path": "fd:-1"}),
        json!({"fd": 1}),
        json!({"fd": "fd:0"}),
        json!({"fd": null}),
        json!({"fds": [0, 99999999999999999999.0]}),
        json!([{"a": ["fd:7"]}]),
    ] {
        let refusal = offered.rename(&mut wrong.clone()).unwrap_err();
        assert_eq!(refusal.status, 400, "{wrong}");
        assert!(
            refusal.message.contains("the first is fd:0"),
            "{}",
            refusal.message
        );
    }
}

#[test]
fn descriptors_that_nobody_took_are_closed() {
    let offered = offer(2);
    let (kept, left) = (offered.0[0], offered.0[1]);
    let taken = host_file::take_number(kept).unwrap();
    drop(offered);
    assert!(nix::fcntl::fcntl(&taken, nix::fcntl::FcntlArg::F_GETFD).is_ok());
    assert!(host_file::take_number(left).is_none());
}
