use proptest::prelude::*;

use super::*;

#[test]
fn numbers_in_properties_become_text() {
    let metadata = Metadata::from_yaml(
        b"architecture: x86_64\ncreation_date: 1700000000\nproperties:\n  release: 12\n  lts: true\n  os: Debian\n",
    )
    .unwrap();
    assert_eq!(metadata.creation_date, 1_700_000_000);
    assert_eq!(metadata.properties["release"], "12");
    assert_eq!(metadata.properties["lts"], "true");
}

#[test]
fn templates_are_read_with_their_conditions() {
    let metadata = Metadata::from_yaml(
        b"architecture: aarch64\ntemplates:\n  /etc/hostname:\n    when: [create, copy]\n    template: hostname.tpl\n    create_only: true\n",
    )
    .unwrap();
    let template = &metadata.templates["/etc/hostname"];
    assert_eq!(template.when, ["create", "copy"]);
    assert!(template.create_only);
}

#[test]
fn metadata_without_an_architecture_or_with_a_template_outside_is_refused() {
    for text in [
        "properties: {}\n",
        "architecture: ''\n",
        "[]",
        "\u{0}",
        "architecture: vax\n",
        "architecture: x86_64\ntemplates:\n  /a:\n    template: ../../etc/shadow\n",
        "architecture: x86_64\ntemplates:\n  /a/../../b:\n    template: b.tpl\n",
        "architecture: x86_64\ntemplates:\n  a:\n    template: b.tpl\n",
    ] {
        assert!(Metadata::from_yaml(text.as_bytes()).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in ".{0,400}") {
        let _ = Metadata::from_yaml(text.as_bytes());
    }

    #[test]
    fn what_is_written_is_read_back(
        architecture in "x86_64|aarch64|riscv64",
        properties in proptest::collection::btree_map("[a-z.]{1,10}", "[ -~]{0,20}", 0..5),
    ) {
        let metadata = Metadata { architecture, properties, ..Metadata::default() };
        prop_assert_eq!(Metadata::from_yaml(metadata.to_yaml().unwrap().as_bytes()).unwrap(), metadata);
    }
}

#[test]
fn an_architecture_is_known_by_all_its_names() {
    for (name, canonical) in [
        ("amd64", "x86_64"),
        ("arm64", "aarch64"),
        ("armhf", "armv7l"),
        ("x86_64", "x86_64"),
    ] {
        let metadata = Metadata::from_yaml(format!("architecture: {name}\n").as_bytes()).unwrap();
        assert_eq!(metadata.architecture, canonical);
    }
}

#[test]
fn aliases_cannot_be_used_to_blow_it_up() {
    let mut text = String::from("architecture: x86_64\na0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for level in 1..12 {
        let list = vec![format!("*a{}", level - 1); 10].join(",");
        text += &format!("a{level}: &a{level} [{list}]\n");
    }
    let started = std::time::Instant::now();
    let _ = Metadata::from_yaml(text.as_bytes());
    assert!(started.elapsed() < std::time::Duration::from_secs(10));
}
