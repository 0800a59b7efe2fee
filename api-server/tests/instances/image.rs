//! A system of one program: busybox, as an image.

use std::path::{Path, PathBuf};
use std::process::Command;

const INITTAB: &str = "::sysinit:/bin/echo system is up\n::respawn:/bin/sleep 100000\n::shutdown:/bin/true\n";
const METADATA: &str = "architecture: x86_64\ncreation_date: 1700000000\nproperties:\n  os: Busybox\n  description: Test image\n\
templates:\n  /etc/hostname:\n    when: [create, rename]\n    template: hostname.tpl\n";
const APPLETS: [&str; 24] = [
    "sh", "cat", "echo", "id", "ls", "sleep", "stty", "true", "false", "tty", "kill", "hostname", "poweroff",
    "reboot", "mkdir", "pwd", "env", "ip", "test", "rm", "touch", "head", "wc", "ps",
];

/// Makes `image.tar.gz` in a folder.
pub(crate) fn make(folder: &Path) -> PathBuf {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .expect("this test needs busybox: install busybox-static");
    let tree = folder.join("tree");
    let root = tree.join("rootfs");
    for name in [
        "bin", "sbin", "etc", "proc", "sys", "dev", "tmp", "root", "run", "usr",
    ] {
        std::fs::create_dir_all(root.join(name)).unwrap();
    }
    std::fs::copy(busybox, root.join("bin/busybox")).unwrap();
    for applet in APPLETS {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    std::os::unix::fs::symlink("../bin/busybox", root.join("sbin/init")).unwrap();
    std::fs::write(root.join("etc/inittab"), INITTAB).unwrap();
    std::fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
    std::fs::write(root.join("etc/group"), "root:x:0:\n").unwrap();
    std::fs::write(tree.join("metadata.yaml"), METADATA).unwrap();
    std::fs::create_dir(tree.join("templates")).unwrap();
    std::fs::write(tree.join("templates/hostname.tpl"), "{{ container.name }}\n").unwrap();
    let image = folder.join("image.tar.gz");
    let packed = Command::new("tar")
        .arg("-C")
        .arg(&tree)
        .arg("-czf")
        .arg(&image)
        .args(["metadata.yaml", "templates", "rootfs"])
        .status()
        .unwrap();
    assert!(packed.success());
    image
}
