use super::*;

#[test]
fn bundles_differ_only_in_what_is_measured() {
    let plain = config(Path::new("/r"), Task::True, false);
    let mapped = config(Path::new("/r"), Task::True, true);
    assert_eq!(plain["process"], mapped["process"]);
    assert_eq!(plain["linux"]["uidMappings"], Value::Null);
    assert_eq!(mapped["linux"]["uidMappings"][0]["hostID"], IDS.0);
    let kinds = |config: &Value| config["linux"]["namespaces"].as_array().unwrap().len();
    assert_eq!(kinds(&plain) + 1, kinds(&mapped));
}
