use api::{InstanceType, Timestamp};

use super::*;
use crate::instances::record::Phase;

fn record() -> InstanceRecord {
    InstanceRecord {
        name: "web".into(),
        project: "default".into(),
        kind: InstanceType::Container,
        architecture: "x86_64".into(),
        config: api::Map::new(),
        devices: api::Devices::new(),
        profiles: Vec::new(),
        ephemeral: false,
        description: String::new(),
        created_at: Timestamp::now(),
        last_used_at: Timestamp::unix_epoch(),
        pool: "default".into(),
        phase: Phase::Ready,
    }
}

fn filled(text: &str) -> Option<String> {
    let mut config = Expanded::default();
    config.config.insert("user.role".into(), "front".into());
    let template = Template {
        properties: [("foo".to_owned(), "bar".to_owned())].into(),
        ..Template::default()
    };
    render(text, &record(), &config, &template)
}

#[test]
fn expressions_are_filled_in_and_statements_refused() {
    assert_eq!(filled("{{ container.name }}\n").as_deref(), Some("web\n"));
    assert_eq!(
        filled("127.0.1.1 {{instance.name}}!").as_deref(),
        Some("127.0.1.1 web!")
    );
    assert_eq!(
        filled("{{ config_get(\"user.role\", \"none\") }}").as_deref(),
        Some("front")
    );
    assert_eq!(
        filled("{{ config_get('user.other', 'none') }}").as_deref(),
        Some("none")
    );
    assert_eq!(
        filled("{{ properties.foo }}{{ properties.no }}").as_deref(),
        Some("bar")
    );
    assert_eq!(filled("nothing to do").as_deref(), Some("nothing to do"));
    assert_eq!(filled("{% if x %}y{% endif %}"), None);
    assert_eq!(filled("{{ container.name"), None);
    assert_eq!(filled("{{ magic }}"), None);
}

#[test]
fn files_are_written_inside_whatever_links_say() {
    let folder = tempfile::tempdir().unwrap();
    let (root, outside) = (folder.path().join("root"), folder.path().join("outside"));
    std::fs::create_dir_all(root.join("etc")).unwrap();
    std::fs::write(&outside, "untouched").unwrap();
    write_inside(&root, "/etc/hostname", b"web\n", false).unwrap();
    write_inside(&root, "/etc/hostname", b"w\n", false).unwrap();
    assert_eq!(std::fs::read_to_string(root.join("etc/hostname")).unwrap(), "w\n");
    write_inside(&root, "/etc/hostname", b"again\n", true).unwrap();
    assert_eq!(
        std::fs::read_to_string(root.join("etc/hostname")).unwrap(),
        "w\n",
        "it was to be created only"
    );

    std::os::unix::fs::symlink(&outside, root.join("etc/absolute")).unwrap();
    std::os::unix::fs::symlink("../../outside", root.join("etc/up")).unwrap();
    for link in ["/etc/absolute", "/etc/up"] {
        // Inside, the folder that the link names may not exist; in no case is the host's file written.
        let _ = write_inside(&root, link, b"escaped", false);
    }
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "untouched");

    let pipe = root.join("etc/pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    assert!(write_inside(&root, "/etc/pipe", b"x", false).is_err());
}
