use super::*;

#[test]
fn a_full_configuration_reads_back() {
    let json = r#"{
        "hostname": "web1",
        "root": {"device": "/dev/vda", "fstype": "ext4", "read_only": false, "grow": true},
        "nics": [{
            "hwaddr": "10:66:6a:00:00:01", "name": "eth0", "addresses": ["10.1.2.3/24", "fd00::3/64"],
            "gateway4": "10.1.2.1", "gateway6": "fd00::1", "dns": ["10.1.2.1"], "search": ["virga"], "mtu": 1400
        }],
        "init": {"command": ["/bin/server", "--fast"]},
        "environment": {"LANG": "C.UTF-8"},
        "listen": {"vsock": 1024}
    }"#;
    let config: GuestConfig = serde_json::from_str(json).unwrap();
    assert_eq!(
        config.init,
        InitMode::Command(vec!["/bin/server".into(), "--fast".into()])
    );
    assert_eq!(config.nics[0].addresses[1].to_string(), "fd00::3/64");
    let again: GuestConfig = serde_json::from_str(&serde_json::to_string(&config).unwrap()).unwrap();
    assert_eq!(again, config);
}

#[test]
fn an_empty_configuration_boots_the_image_from_the_first_disk() {
    let config: GuestConfig = serde_json::from_str("{}").unwrap();
    assert_eq!(config, GuestConfig::default());
    assert_eq!(
        (config.root.device.as_str(), config.init),
        ("/dev/vda", InitMode::Image)
    );
}

#[test]
fn mistakes_are_named() {
    let wrong = serde_json::from_str::<GuestConfig>(r#"{"hostnam": "x"}"#).unwrap_err();
    assert!(wrong.to_string().contains("hostnam"));
    for text in ["10.0.0.1", "10.0.0.1/33", "fd00::/129", "x/8", "/8"] {
        assert!(text.parse::<Cidr>().unwrap_err().to_string().contains(text));
    }
}
