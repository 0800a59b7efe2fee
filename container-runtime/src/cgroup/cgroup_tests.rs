//! Hierarchies, and groups in those that this host has.

#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn hybrid_hosts_are_understood() {
    let text = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
        32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
        33 31 0:30 / /sys/fs/cgroup/net_cls rw - cgroup cgroup rw,net_cls\n\
        34 31 0:31 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
        35 31 0:32 / /with\\040space rw - cgroup2 cgroup2 rw,nsdelegate\n\
        36 31 0:29 / /other rw - cgroup cgroup rw,cpu,cpuacct\n\
        37 31 0:32 / /another rw - cgroup2 cgroup2 rw\n";
    let found = hierarchy::parse(text);
    assert_eq!(found.len(), 3);
    assert_eq!(found[0].mount, Path::new("/sys/fs/cgroup/cpu,cpuacct"));
    assert_eq!(found[0].controllers, ["cpu", "cpuacct"]);
    assert_eq!(found[1].controllers, ["name=systemd"]);
    assert_eq!(
        (found[2].version, found[2].mount.to_str()),
        (Version::V2, Some("/with space"))
    );
    assert!(hierarchy::parse("").is_empty());
    assert!(hierarchy::parse("a - \n- b\n\n 1 2 - cgroup\n").is_empty());
}

#[test]
fn groups_are_made_used_and_removed_with_everything_in_them() {
    let name = format!("virga/unit-{}", std::process::id());
    let limits = Limits {
        pids_max: Some(5),
        memory_bytes: Some(32 << 20),
        ..Limits::default()
    };
    let cgroup = Cgroup::create(&name, &limits, None, Some((123_456, 123_456))).unwrap();
    let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    cgroup.add(child.id() as i32, true).unwrap();
    let metrics = cgroup.metrics();
    assert_eq!(
        (metrics.pids, metrics.pids_limit, metrics.memory_limit_bytes),
        (1, Some(5), Some(32 << 20))
    );
    for hierarchy in discover().unwrap() {
        use std::os::unix::fs::MetadataExt;
        let outer = hierarchy.mount.join(&name);
        assert_eq!(fs::metadata(outer.join("cgroup.procs")).unwrap().uid(), 0);
        assert_eq!(
            fs::metadata(outer.join("payload/cgroup.procs")).unwrap().uid(),
            123_456
        );
        fs::create_dir_all(outer.join("payload/made/inside")).unwrap();
    }
    cgroup.freeze(true).unwrap();
    cgroup.destroy().unwrap();
    assert!(!child.wait().unwrap().success());
    assert!(discover().unwrap().iter().all(|h| !h.mount.join(&name).exists()));
    cgroup.destroy().unwrap();
}

#[test]
fn a_limit_without_its_controller_is_refused() {
    let cgroup = Cgroup {
        hierarchies: Vec::new(),
        name: "virga/none".to_owned(),
        delegated: true,
    };
    let limits = Limits {
        memory_bytes: Some(1 << 30),
        ..Limits::default()
    };
    let error = cgroup.apply(&limits, true).unwrap_err().to_string();
    assert!(error.contains("memory"), "{error}");
    cgroup.apply(&Limits::default(), true).unwrap();
}

#[test]
fn control_files_of_both_versions_get_the_limits_in_their_own_words() {
    let limits = Limits {
        memory_bytes: Some(1 << 30),
        memory_soft_bytes: Some(1 << 29),
        swap_bytes: Some(1 << 20),
        cpu_quota_us: Some(50_000),
        cpu_weight: Some(200),
        cpu_set: Some("0-1".to_owned()),
        pids_max: Some(99),
        ..Limits::default()
    };
    let dir = tempfile::tempdir().unwrap();
    for file in ["memory.swap.max", "memory.memsw.limit_in_bytes"] {
        fs::write(dir.path().join(file), "").unwrap();
    }
    for controller in ["memory", "cpu", "cpuset", "pids"] {
        v1::apply(dir.path(), controller, &limits).unwrap();
        v2::apply(dir.path(), controller, &limits).unwrap();
    }
    for (file, value) in [
        ("memory.limit_in_bytes", "1073741824"),
        ("memory.memsw.limit_in_bytes", "1074790400"),
        ("memory.soft_limit_in_bytes", "536870912"),
        ("cpu.cfs_quota_us", "50000"),
        ("cpu.cfs_period_us", "100000"),
        ("cpu.shares", "2048"),
        ("cpuset.cpus", "0-1"),
        ("pids.max", "99"),
        ("memory.max", "1073741824"),
        ("memory.high", "536870912"),
        ("memory.swap.max", "1048576"),
        ("cpu.max", "50000 100000"),
        ("cpu.weight", "200"),
    ] {
        assert_eq!(
            fs::read_to_string(dir.path().join(file)).unwrap(),
            value,
            "{file}"
        );
    }
    v2::apply(dir.path(), "memory", &Limits::default()).unwrap();
    v2::apply(dir.path(), "cpu", &Limits::default()).unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("memory.max")).unwrap(), "max");
    assert_eq!(
        fs::read_to_string(dir.path().join("cpu.max")).unwrap(),
        "max 100000"
    );
}

#[test]
fn version_2_measurements_are_read() {
    let dir = tempfile::tempdir().unwrap();
    for (file, text) in [
        ("cpu.stat", "usage_usec 12\nuser_usec 5\n"),
        ("memory.current", "4096\n"),
        ("memory.peak", "8192\n"),
        ("memory.max", "max\n"),
        ("memory.events", "low 0\nhigh 0\nmax 3\noom 2\noom_kill 2\n"),
        ("pids.current", "3\n"),
        ("pids.max", "7\n"),
    ] {
        fs::write(dir.path().join(file), text).unwrap();
    }
    let hierarchy = Hierarchy {
        mount: PathBuf::new(),
        version: Version::V2,
        controllers: vec!["memory".to_owned(), "pids".to_owned()],
    };
    let mut metrics = Metrics::default();
    v2::measure(dir.path(), &hierarchy, &mut metrics);
    let expected = Metrics {
        cpu_usage_ns: 12_000,
        memory_bytes: 4096,
        memory_peak_bytes: 8192,
        pids: 3,
        pids_limit: Some(7),
        oom_kills: 2,
        ..Metrics::default()
    };
    assert_eq!(metrics, expected);
}
