use super::*;

fn map(pairs: &[(&str, &str)]) -> Map {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn the_instance_wins_over_the_last_profile_and_the_last_over_the_first() {
    let profile = |value: &str| Profile {
        config: map(&[("user.a", value), (&format!("user.{value}"), "1")]),
        devices: [(
            "root".to_owned(),
            map(&[("type", "disk"), ("pool", value), ("size", value)]),
        )]
        .into(),
        ..Profile::default()
    };
    let own = map(&[("user.b", "own")]);
    let merged = merge(&[profile("first"), profile("second")], &own, &Devices::new());
    assert_eq!(merged.get("user.a"), "second");
    assert_eq!(merged.get("user.first"), "1");
    assert_eq!(merged.get("user.b"), "own");

    let own: Devices = [("root".to_owned(), map(&[("type", "disk"), ("pool", "own")]))].into();
    let merged = merge(&[profile("first")], &Map::new(), &own);
    assert_eq!(
        merged.devices["root"], own["root"],
        "devices are replaced, not merged"
    );
}
