//! What a container is, and what it cannot see or do.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;

use common::{TestContainer, status_field};
use container_runtime::spec::{CgroupLayout, Mount, Rlimit};
use container_runtime::state::ExitReason;

#[test]
fn root_inside_is_nobody_outside() {
    let mut container = TestContainer::script("id -u; id -g; id -G; echo up; sleep 1000");
    container.start();
    container.until_console("up");
    assert!(
        container.console().starts_with("0\n0\n0\n"),
        "{}",
        container.console()
    );
    let base = container.spec.idmap.unwrap().host_base.to_string();
    let pid = container.init_pid();
    for field in ["Uid:", "Gid:"] {
        let ids = status_field(pid, field);
        assert!(ids.split_ascii_whitespace().all(|id| id == base), "{field} {ids}");
    }
    for kind in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time"] {
        let own = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        let inner = fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
        assert_ne!(own, inner, "the {kind} namespace is shared with the host");
    }
}

#[test]
fn files_made_inside_have_plain_ids_on_disk() {
    use std::os::unix::fs::MetadataExt;
    let mut container = TestContainer::script("touch /made; chown 1000:1000 /made; stat -c %u /bin/busybox");
    let (console, exit) = container.run();
    assert_eq!(exit.status, Some(0), "{console}");
    assert_eq!(console, "0\n");
    assert_eq!(fs::metadata(container.rootfs().join("made")).unwrap().uid(), 1000);
}

#[test]
fn it_has_its_own_name_processes_and_clock() {
    let mut container =
        TestContainer::script("hostname; echo pid $$; ls -d /proc/[0-9]* | wc -l; cat /proc/uptime");
    container.spec.hostname = "another-name".to_owned();
    let (console, _) = container.run();
    let lines: Vec<&str> = console.lines().collect();
    assert_eq!(&lines[..2], ["another-name", "pid 1"]);
    assert!(
        lines[2].parse::<u32>().unwrap() <= 3,
        "processes of the host are visible: {console}"
    );
    let uptime: f64 = lines[3].split(' ').next().unwrap().parse().unwrap();
    assert!(uptime < 30.0, "the clock of the host: {uptime}");
}

#[test]
fn mounts_made_inside_stay_inside_and_the_host_is_out_of_reach() {
    let script = "mount -t tmpfs none /tmp && touch /tmp/inside && echo mounted; ls -d $HOST 2>&1; ls /proc/1/root/ | wc -l; cat /proc/mounts";
    let mut container = TestContainer::script(script);
    let host = container.path().to_string_lossy().into_owned();
    container.spec.environment.insert("HOST".to_owned(), host.clone());
    let (console, _) = container.run();
    assert!(console.starts_with("mounted\n"), "{console}");
    assert!(console.contains("No such file"), "{console}");
    assert!(!container.rootfs().join("tmp/inside").exists());
    let own = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(
        !own.contains(&host),
        "a mount has come out of the container:\n{own}"
    );
    let mount_points = console.lines().filter(|line| line.contains(" / ")).count();
    assert_eq!(mount_points, 1, "the old root is still there: {console}");
}

#[test]
fn kernel_parameters_and_host_facts_are_protected() {
    let script =
        "echo x > /proc/sys/kernel/hostname; echo b > /proc/sysrq-trigger; echo 1 > /sys/kernel/profiling;
        cat /proc/keys /proc/timer_list | wc -c; ls /proc/acpi /sys/firmware 2>/dev/null | grep -c dsdt;
        echo 1 > /proc/sys/net/ipv4/ip_forward && cat /proc/sys/net/ipv4/ip_forward";
    let mut container = TestContainer::script(script);
    let (console, _) = container.run();
    // Not every kernel has sysrq.
    assert_eq!(console.matches("can't create").count(), 3, "{console}");
    assert!(console.matches("Read-only file system").count() >= 2, "{console}");
    let rest: Vec<&str> = console
        .lines()
        .filter(|line| !line.contains("can't create"))
        .collect();
    assert_eq!(rest, ["0", "0", "1"], "{console}");
}

#[test]
fn privileged_operations_are_refused() {
    let script = "mknod /tmp/null c 1 3; echo x > /tmp/m.ko; insmod /tmp/m.ko; date -s 2000-01-01; swapoff -a; umount -f /proc;
        grep -E '^(CapBnd|Seccomp):' /proc/self/status";
    let mut container = TestContainer::script(script);
    let (console, _) = container.run();
    assert!(
        console.contains("mknod: /tmp/null: Operation not permitted"),
        "{console}"
    );
    assert!(
        console.contains("insmod: can't insert '/tmp/m.ko': Operation not permitted"),
        "{console}"
    );
    assert!(
        console.contains("date: can't set date: Operation not permitted"),
        "{console}"
    );
    assert!(console.contains("Seccomp:\t2"), "{console}");
    let bounding = console.lines().find(|line| line.starts_with("CapBnd")).unwrap();
    let bounding = u64::from_str_radix(bounding.split('\t').nth(1).unwrap(), 16).unwrap();
    // SYS_MODULE 16, SYS_RAWIO 17, SYS_TIME 25, MAC_OVERRIDE 32, MAC_ADMIN 33; CHOWN 0 and SYS_ADMIN 21 are needed.
    for cap in [16, 17, 25, 32, 33] {
        assert_eq!(bounding >> cap & 1, 0, "capability {cap}");
    }
    for cap in [0, 21] {
        assert_eq!(bounding >> cap & 1, 1, "capability {cap}");
    }
}

#[test]
fn devices_are_the_harmless_ones() {
    let script = "for d in null zero full random urandom tty console ptmx; do test -c /dev/$d || echo no $d; done;
        head -c 4 /dev/zero | wc -c; echo gone > /dev/null && tty; ls -l /proc/self/fd/0; test -b /dev/vda && echo disk;
        test -e /dev/kmsg && echo kmsg; ls -ld /dev/shm | cut -c1-10; stat -f -c %T /dev/mqueue /dev/shm";
    let mut container = TestContainer::script(script);
    let (console, _) = container.run();
    let lines: Vec<&str> = console.lines().collect();
    assert_eq!(lines[0], "4", "{console}");
    assert!(lines[1].starts_with("/dev/"), "no terminal: {console}");
    assert!(
        !console.contains("no ") && !console.contains("disk") && !console.contains("kmsg"),
        "{console}"
    );
    assert!(console.contains("drwxrwxrwt"), "{console}");
}

#[test]
fn the_process_has_what_the_specification_says() {
    let mut container = TestContainer::new(&[
        "sh",
        "-c",
        "id -u; id -g; pwd; echo $COLOUR; echo $container; ulimit -n; cat /proc/sys/net/ipv4/ip_forward; grep NoNewPrivs /proc/self/status; grep CapEff /proc/self/status",
    ]);
    container.spec.user = 1000;
    container.spec.group = 1000;
    container.spec.cwd = Some("/tmp".to_owned());
    container.spec.no_new_privs = true;
    container
        .spec
        .environment
        .insert("COLOUR".to_owned(), "green blue".to_owned());
    container.spec.rlimits = vec![Rlimit {
        kind: "nofile".to_owned(),
        soft: 77,
        hard: 99,
    }];
    container
        .spec
        .sysctls
        .insert("net.ipv4.ip_forward".to_owned(), "1".to_owned());
    let (console, exit) = container.run();
    assert_eq!(exit.reason, ExitReason::Exited);
    let lines: Vec<&str> = console.lines().collect();
    assert_eq!(
        lines,
        [
            "1000",
            "1000",
            "/tmp",
            "green blue",
            "lxc",
            "77",
            "1",
            "NoNewPrivs:\t1",
            "CapEff:\t0000000000000000"
        ]
    );
}

#[test]
fn mounts_of_the_host_appear_where_they_should() {
    use std::os::unix::fs::MetadataExt;
    let mut container = TestContainer::script(
        "cat /srv/data/file; touch /srv/data/x; stat -c %u /srv/shifted/file; touch /srv/shifted/made; echo y > /srv/one; df -m /scratch | tail -1; ls /missing",
    );
    let data = container.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("file"), "content\n").unwrap();
    let shared = container.path().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::write(shared.join("file"), "").unwrap();
    let one = container.path().join("one");
    fs::write(&one, "").unwrap();
    let bind = |source: &std::path::Path, target: &str| Mount {
        source: source.to_string_lossy().into_owned(),
        target: target.to_owned(),
        ..Mount::default()
    };
    container.spec.mounts = vec![
        Mount {
            read_only: true,
            ..bind(&data, "/srv/data")
        },
        Mount {
            shift: true,
            ..bind(&shared, "/srv/shifted")
        },
        Mount {
            shift: true,
            ..bind(&one, "/srv/one")
        },
        Mount {
            source: "none".to_owned(),
            target: "/scratch".to_owned(),
            fstype: Some("tmpfs".to_owned()),
            options: vec!["size=3M".to_owned()],
            ..Mount::default()
        },
        Mount {
            optional: true,
            ..bind(std::path::Path::new("/does/not/exist"), "/missing")
        },
    ];
    let (console, _) = container.run();
    assert!(console.contains("content"), "{console}");
    assert!(
        console.contains("touch: /srv/data/x: Read-only file system"),
        "{console}"
    );
    assert!(console.contains("\n0\n"), "{console}");
    assert!(console.contains(" 3 "), "{console}");
    assert!(console.contains("ls: /missing: No such file"), "{console}");
    assert_eq!(fs::metadata(shared.join("made")).unwrap().uid(), 0);
    assert_eq!(fs::read_to_string(one).unwrap(), "y\n");
}

#[test]
fn its_control_groups_are_its_own_to_divide_but_not_to_escape() {
    let script = "cd /sys/fs/cgroup && cat /proc/self/cgroup | grep ^0: ; mkdir mine && echo $$ > mine/cgroup.procs && cat /proc/self/cgroup | grep ^0:";
    let mut container = TestContainer::script(script);
    let (console, _) = container.run();
    if console.is_empty() {
        eprintln!("skipped: this host has no unified hierarchy");
        return;
    }
    assert_eq!(console, "0::/\n0::/mine\n");
}

#[test]
fn a_legacy_layout_shows_every_hierarchy() {
    if !fs::read_to_string("/proc/self/mounts")
        .unwrap()
        .contains(" cgroup ")
    {
        eprintln!("skipped: this host has no legacy hierarchies");
        return;
    }
    let mut container = TestContainer::script(
        "cd /sys/fs/cgroup && ls; mkdir systemd/a memory/a && echo $$ > systemd/a/cgroup.procs && echo moved; cat memory/memory.limit_in_bytes; echo 9999999 > memory/memory.limit_in_bytes; mkdir here",
    );
    container.spec.cgroup_layout = CgroupLayout::Legacy;
    let (console, _) = container.run();
    assert!(
        console.contains("systemd") && console.contains("memory"),
        "{console}"
    );
    assert!(console.contains("moved"), "{console}");
    assert!(
        console.contains("memory.limit_in_bytes: Permission denied"),
        "{console}"
    );
    assert!(
        console.contains("can't create directory 'here': Read-only"),
        "{console}"
    );
}

#[test]
fn a_privileged_container_works_too() {
    let mut container = TestContainer::script("id -u; cat /proc/self/uid_map; mount | grep -c ' / '; exit 3");
    container.spec.idmap = None;
    let (console, exit) = container.run();
    assert!(
        console.starts_with("0\n         0          0 4294967295\n1\n"),
        "{console}"
    );
    assert_eq!(exit.status, Some(3));
}

#[test]
fn nested_user_namespaces_can_mount_their_own_proc_where_nesting_is_allowed() {
    for (nesting, expected) in [(true, "nested\n"), (false, "refused\n")] {
        let mut container = TestContainer::script(
            "unshare -Urmpf --mount-proc /bin/sh -c 'test $$ = 1 && ls /proc/self >/dev/null && echo nested' 2>/dev/null || echo refused",
        );
        container.spec.nesting = nesting;
        let (console, _) = container.run();
        assert_eq!(console, expected, "nesting: {nesting}");
    }
}
