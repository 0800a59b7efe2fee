use std::os::unix::fs::symlink;

use super::*;

fn nic(dns: &[&str], search: &[&str]) -> NicConfig {
    NicConfig {
        dns: dns.iter().map(|server| server.parse().unwrap()).collect(),
        search: search.iter().map(|&domain| domain.into()).collect(),
        ..NicConfig::default()
    }
}

#[test]
fn the_name_is_added_to_the_images_hosts_once() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    let hosts = root.path().join("etc/hosts");
    fs::write(&hosts, "127.0.0.1 localhost # web1").unwrap();
    write_names(root.path(), "web1").unwrap();
    write_names(root.path(), "web1").unwrap();
    assert_eq!(
        fs::read_to_string(hosts).unwrap(),
        "127.0.0.1 localhost # web1\n127.0.1.1\tweb1\n"
    );
    assert_eq!(
        fs::read_to_string(root.path().join("etc/hostname")).unwrap(),
        "web1\n"
    );
}

#[test]
fn an_image_without_files_gets_them() {
    let root = tempfile::tempdir().unwrap();
    write_names(root.path(), "bare").unwrap();
    let hosts = fs::read_to_string(root.path().join("etc/hosts")).unwrap();
    assert!(names(&hosts).any(|name| name == "localhost") && names(&hosts).any(|name| name == "bare"));
}

#[test]
fn name_servers_replace_a_left_over_file() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    let file = root.path().join("etc/resolv.conf");
    fs::write(&file, "nameserver 192.0.2.53\n").unwrap();
    let nics = [
        nic(&["10.0.0.1"], &["virga"]),
        nic(&["10.0.0.1", "fd00::1"], &["virga", "b ad"]),
    ];
    write_resolv_conf(root.path(), &nics).unwrap();
    let expected = "search virga\nnameserver 10.0.0.1\nnameserver fd00::1\n";
    assert_eq!(fs::read_to_string(file).unwrap(), expected);
}

#[test]
fn a_managers_link_is_followed_and_stays() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    let file = root.path().join("etc/resolv.conf");
    symlink("../run/systemd/resolve/stub-resolv.conf", &file).unwrap();
    write_resolv_conf(root.path(), &[nic(&["10.0.0.1"], &[])]).unwrap();
    assert!(file.is_symlink());
    assert_eq!(fs::read_to_string(file).unwrap(), "nameserver 10.0.0.1\n");
}

#[test]
fn without_name_servers_the_image_keeps_its_own() {
    assert_eq!(resolv_conf(&[nic(&[], &["virga"])]), None);
}

#[test]
fn links_do_not_lead_out_of_the_root() {
    let to = |target: &str| within(Path::new("/r"), Path::new("etc"), Path::new(target));
    assert_eq!(to("/run/a"), Path::new("/r/run/a"));
    assert_eq!(to("../../../../x"), Path::new("/r/x"));
    assert_eq!(to("b"), Path::new("/r/etc/b"));
}
