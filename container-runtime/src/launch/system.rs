//! From a [`ContainerSpec`] to a [`Plan`]: what every system container gets.

use std::path::PathBuf;

use super::{DevicePlan, IdExtent, MountPlan, MountSource, Plan, ProcessPlan, RlimitPlan};
use crate::caps::CapabilitySets;
use crate::cgroup::{self, DEFAULT_RULES, DeviceKind, DeviceRule, Hierarchy, Version};
use crate::spec::{CgroupLayout, ContainerSpec, Mount, sysctl_path};
use crate::sys::mount::attr;
use crate::sys::process::CLONE_NEWTIME;
use crate::{Error, Result, process, seccomp};

const NO_SPECIAL: u64 = attr::NOSUID | attr::NODEV | attr::NOEXEC;

/// Nodes that programs need to run at all.
pub(crate) const DEVICES: &[&str] = &[
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
];
/// Nodes that are safe in a user namespace, where the host has them: FUSE mounts and tunnels belong to the namespace.
const OPTIONAL_DEVICES: &[&str] = &["/dev/fuse", "/dev/net/tun"];

/// Paths that tell about the host or reach into it (the list container engines hand to OCI runtimes).
const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
const READ_ONLY: &[&str] = &[
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];
/// The network's parameters are the container's own.
const WRITABLE: &[&str] = &["/proc/sys/net"];

/// Size of a console nobody has attached to yet.
const CONSOLE_SIZE: (u16, u16) = (80, 24);
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The plan of a system container.
pub(crate) fn plan(spec: &ContainerSpec) -> Result<Plan> {
    spec.validate()?;
    let mut namespaces = libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWCGROUP;
    let mut map = Vec::new();
    if let Some(ids) = spec.idmap {
        namespaces |= libc::CLONE_NEWUSER;
        map.push(IdExtent {
            inside: 0,
            outside: ids.host_base,
            size: ids.range,
        });
    }
    if spec.time_namespace && std::path::Path::new("/proc/self/ns/time").exists() {
        namespaces |= CLONE_NEWTIME;
    }
    let owned = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<String>>();
    let mut mounts = base_mounts(spec.cgroup_layout)?;
    if spec.nesting {
        mounts.extend(nesting_mounts());
    }
    mounts.extend(spec.mounts.iter().map(user_mount));
    Ok(Plan {
        namespaces,
        uid_map: map.clone(),
        gid_map: map,
        rootfs: spec.rootfs.clone(),
        shift_root: spec.idmap.is_some(),
        hostname: Some(spec.hostname.clone()),
        mounts,
        devices: devices(spec),
        masked: owned(MASKED),
        read_only: owned(READ_ONLY),
        writable: owned(WRITABLE),
        sysctls: spec
            .sysctls
            .iter()
            .map(|(key, value)| Ok((sysctl_path(key)?, value.clone())))
            .collect::<Result<_>>()?,
        clocks_at_zero: true,
        terminal: Some(CONSOLE_SIZE),
        dies_with_parent: true,
        process: first_process(spec)?,
        ..Plan::default()
    })
}

fn first_process(spec: &ContainerSpec) -> Result<ProcessPlan> {
    let mut rlimits = Vec::new();
    for limit in &spec.rlimits {
        let resource = process::rlimit_by_name(&limit.kind)
            .ok_or_else(|| Error::spec("rlimits.kind", format!("{:?} is not a limit", limit.kind)))?;
        rlimits.push(RlimitPlan {
            resource,
            soft: limit.soft,
            hard: limit.hard,
        });
    }
    Ok(ProcessPlan {
        arguments: spec.init.clone(),
        environment: environment(spec),
        cwd: spec.cwd.clone().unwrap_or_else(|| "/".to_owned()),
        user: spec.user,
        group: spec.group,
        groups: Vec::new(),
        capabilities: Some(CapabilitySets::system(
            spec.idmap.is_none(),
            &spec.drop_capabilities,
        )?),
        rlimits,
        no_new_privs: spec.no_new_privs,
        seccomp: spec.seccomp.then(|| (seccomp::default::program(spec.nesting), 0)),
        umask: None,
        oom_score_adj: None,
    })
}

/// `container=lxc` is how init systems and their scripts recognise a system container, whoever made it
/// (systemd.io/CONTAINER_INTERFACE; OpenRC's `rc_sys`).
fn environment(spec: &ContainerSpec) -> Vec<String> {
    let defaults = [
        ("PATH", DEFAULT_PATH),
        ("TERM", "linux"),
        ("HOME", "/root"),
        ("USER", "root"),
        ("container", "lxc"),
    ];
    defaults
        .iter()
        .filter(|(name, _)| !spec.environment.contains_key(*name))
        .map(|(name, value)| format!("{name}={value}"))
        .chain(
            spec.environment
                .iter()
                .map(|(name, value)| format!("{name}={value}")),
        )
        .collect()
}

fn new(target: &str, kind: &str, options: &[&str], attributes: u64) -> MountPlan {
    MountPlan {
        target: target.to_owned(),
        source: MountSource::New {
            kind: kind.to_owned(),
            options: options.iter().map(|&option| option.to_owned()).collect(),
        },
        attributes,
        optional: false,
    }
}

fn base_mounts(layout: CgroupLayout) -> Result<Vec<MountPlan>> {
    let mut mqueue = new("/dev/mqueue", "mqueue", &[], NO_SPECIAL);
    mqueue.optional = true;
    Ok(vec![
        new("/proc", "proc", &[], NO_SPECIAL),
        new(
            "/dev",
            "tmpfs",
            &["mode=755", "size=1M"],
            attr::NOSUID | attr::NOEXEC | attr::STRICTATIME,
        ),
        // Group 5 is tty in every distribution.
        new(
            "/dev/pts",
            "devpts",
            &["newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
            attr::NOSUID | attr::NOEXEC,
        ),
        new("/dev/shm", "tmpfs", &["mode=1777"], attr::NOSUID | attr::NODEV),
        mqueue,
        new("/sys", "sysfs", &[], NO_SPECIAL | attr::RDONLY),
        cgroup_mount(layout)?,
    ])
}

/// Unmasked proc and sysfs in a place of their own: with the usual ones partly covered, the kernel would not let a container
/// inside mount its own (`mount_too_revealing`).
fn nesting_mounts() -> [MountPlan; 2] {
    [
        new("/dev/.virga/proc", "proc", &[], NO_SPECIAL),
        new("/dev/.virga/sys", "sysfs", &[], NO_SPECIAL),
    ]
}

/// What the init system finds at `/sys/fs/cgroup`.
pub(crate) fn cgroup_mount(layout: CgroupLayout) -> Result<MountPlan> {
    let hierarchies = cgroup::discover()?;
    let has_unified = hierarchies.iter().any(|h| h.version == Version::V2);
    let source = if layout == CgroupLayout::Unified || (layout == CgroupLayout::Auto && has_unified) {
        MountSource::Cgroup2
    } else {
        let legacy: Vec<Hierarchy> = hierarchies
            .into_iter()
            .filter(|h| h.version == Version::V1)
            .collect();
        if legacy.is_empty() {
            return Err(Error::spec(
                "cgroup_layout",
                "this host has no legacy cgroup hierarchies",
            ));
        }
        MountSource::Cgroup1(legacy)
    };
    Ok(MountPlan {
        target: "/sys/fs/cgroup".to_owned(),
        source,
        attributes: NO_SPECIAL,
        optional: false,
    })
}

fn user_mount(mount: &Mount) -> MountPlan {
    let has = |name: &str| mount.options.iter().any(|option| option == name);
    let mut attributes = 0;
    for (name, flag) in [
        ("nosuid", attr::NOSUID),
        ("nodev", attr::NODEV),
        ("noexec", attr::NOEXEC),
        ("noatime", attr::NOATIME),
        ("ro", attr::RDONLY),
    ] {
        if has(name) {
            attributes |= flag;
        }
    }
    if mount.read_only {
        attributes |= attr::RDONLY;
    }
    let source = if mount.is_bind() {
        MountSource::Bind {
            path: PathBuf::from(&mount.source),
            recursive: has("rbind"),
            shift: mount.shift,
        }
    } else {
        let options = mount
            .options
            .iter()
            .filter(|option| option.contains('='))
            .cloned()
            .collect();
        MountSource::New {
            kind: mount.fstype.clone().unwrap_or_default(),
            options,
        }
    };
    MountPlan {
        target: mount.target.clone(),
        source,
        attributes,
        optional: mount.optional || has("optional"),
    }
}

fn devices(spec: &ContainerSpec) -> Vec<DevicePlan> {
    let plan = |path: &&str, optional| DevicePlan {
        source: PathBuf::from(path),
        target: (*path).to_owned(),
        optional,
    };
    DEVICES
        .iter()
        .map(|path| plan(path, false))
        .chain(OPTIONAL_DEVICES.iter().map(|path| plan(path, true)))
        .chain(spec.devices.iter().map(|device| DevicePlan {
            source: device.source.clone(),
            target: device.target.clone(),
            optional: device.optional,
        }))
        .collect()
}

/// Which devices the cgroup lets it open: the default ones and those passed through.
pub(crate) fn device_rules(plan: &Plan) -> Vec<DeviceRule> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let mut rules = DEFAULT_RULES.to_vec();
    for device in &plan.devices {
        let Ok(data) = std::fs::metadata(&device.source) else {
            continue;
        };
        let kind = if data.file_type().is_block_device() {
            DeviceKind::Block
        } else if data.file_type().is_char_device() {
            DeviceKind::Character
        } else {
            continue;
        };
        let rule = DeviceRule {
            kind,
            ..DeviceRule::character(libc::major(data.rdev()), Some(libc::minor(data.rdev())))
        };
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    }
    rules
}
