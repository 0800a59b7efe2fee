//! The table of requests: what is found in it and what is refused.

use super::*;
use proptest::prelude::*;

fn refused(method: &str, path: &str) -> Refusal {
    match find(method, path) {
        Err(refusal) => refusal,
        Ok((route, _)) => panic!("{} {} is found", route.method, route.path),
    }
}

#[test]
fn routes_are_found_by_method_and_path() {
    let (route, name) = find("GET", "/state").unwrap();
    assert_eq!((route.path, name), ("/state", ""));
    let (route, name) = find("PATCH", "/devices/root").unwrap();
    assert_eq!((route.path, name), ("/devices/{id}", "root"));
}

#[test]
fn what_is_not_there_is_refused_with_what_is() {
    let refusal = refused("GET", "/nothing");
    assert_eq!(refusal.status, 404);
    assert!(
        refusal.message.contains("PUT /power-button"),
        "{}",
        refusal.message
    );
    for path in ["/devices/", "/devices/a/b", "/state/", "state", ""] {
        assert_eq!(refused("PATCH", path).status, 404, "{path}");
    }
    let refusal = refused("POST", "/pause");
    assert_eq!(refusal.status, 405);
    assert_eq!(refusal.message, "POST is not possible on /pause; use PUT");
}

#[test]
fn every_route_is_there_once_and_described() {
    for (index, route) in ROUTES.iter().enumerate() {
        let same = |other: &&Route| other.method == route.method && other.path == route.path;
        assert_eq!(ROUTES.iter().filter(same).count(), 1, "{}", route.path);
        assert!(!route.summary.is_empty() && route.path.starts_with('/'));
        assert_eq!(list()[index]["summary"], route.summary);
    }
}

#[test]
fn bodies_and_descriptors_go_where_they_are_taken() {
    let request = |body: &[u8]| Request {
        method: "PUT".into(),
        path: "/pause".into(),
        query: String::new(),
        body: body.to_vec(),
    };
    let (pause, update) = (
        find("PUT", "/pause").unwrap().0,
        find("PATCH", "/devices/x").unwrap().0,
    );
    let none = Files::default();
    let some = Files::from_iter([std::fs::File::open("/dev/null").unwrap().into()]);
    assert_eq!(check_body(pause, &request(b""), &none), Ok(()));
    assert_eq!(check_body(pause, &request(b" {}\n"), &none), Ok(()));
    assert_eq!(check_body(update, &request(b"[1]"), &some), Ok(()));
    assert_eq!(
        check_body(pause, &request(b"{\"a\":1}"), &none).unwrap_err(),
        Refusal::new(400, "PUT /pause takes no document")
    );
    assert_eq!(
        check_body(pause, &request(b""), &some).unwrap_err(),
        Refusal::new(400, "PUT /pause takes no descriptors")
    );
}

proptest! {
    #[test]
    fn any_method_and_path_get_an_answer(method: String, path: String) {
        if let Err(refusal) = find(&method, &path) {
            prop_assert!([404, 405].contains(&refusal.status));
        }
    }
}
