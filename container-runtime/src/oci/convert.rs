//! From a bundle's `config.json` to a [`Plan`].

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Capabilities, LinuxIdMapping, Mount, PosixRlimitType, Process, Spec};

use super::{seccomp, unsupported};
use crate::caps::{self, CapabilitySets};
use crate::launch::{DevicePlan, IdExtent, MountPlan, MountSource, Plan, ProcessPlan, RlimitPlan, system};
use crate::spec::{CgroupLayout, sysctl_path};
use crate::sys::mount::attr;
use crate::sys::process::enter;
use crate::{Error, Result};

/// The plan of a bundle.
pub(super) fn plan(spec: &Spec, bundle: &Path) -> Result<Plan> {
    let root = spec
        .root()
        .as_ref()
        .ok_or_else(|| Error::spec("root", "is missing"))?;
    let linux = spec
        .linux()
        .as_ref()
        .ok_or_else(|| Error::spec("linux", "is missing"))?;
    let process = spec
        .process()
        .as_ref()
        .ok_or_else(|| Error::spec("process", "is missing"))?;
    let mut plan = Plan {
        rootfs: bundle.join(root.path()),
        root_read_only: root.readonly().unwrap_or_default(),
        hostname: spec.hostname().clone().filter(|name| !name.is_empty()),
        uid_map: extents(linux.uid_mappings()),
        gid_map: extents(linux.gid_mappings()),
        masked: linux.masked_paths().clone().unwrap_or_default(),
        read_only: linux.readonly_paths().clone().unwrap_or_default(),
        process: first_process(process)?,
        ..Plan::default()
    };
    for namespace in linux.namespaces().iter().flatten() {
        let kind = namespace.typ() as i32;
        match namespace.path() {
            Some(path) => plan.joined.push((kind, path.clone())),
            None => plan.namespaces |= kind,
        }
    }
    if plan.namespaces & libc::CLONE_NEWNS == 0 {
        return Err(unsupported(
            "linux.namespaces",
            "a container without its own mount namespace",
        ));
    }
    if plan.namespaces & libc::CLONE_NEWUSER != 0 && (plan.uid_map.is_empty() || plan.gid_map.is_empty()) {
        return Err(Error::spec(
            "linux.uidMappings",
            "a user namespace needs mappings",
        ));
    }
    if plan.hostname.is_some() && plan.namespaces & libc::CLONE_NEWUTS == 0 {
        return Err(Error::spec("hostname", "needs a uts namespace of its own"));
    }
    for mount in spec.mounts().iter().flatten() {
        plan.mounts.push(mount_plan(mount, bundle)?);
    }
    if plan
        .mounts
        .iter()
        .any(|m| matches!(m.source, MountSource::Cgroup2 | MountSource::Cgroup1(_)))
    {
        // Without it the mount would show the host's groups.
        plan.namespaces |= libc::CLONE_NEWCGROUP;
    }
    for path in system::DEVICES {
        plan.devices.push(DevicePlan {
            source: path.into(),
            target: (*path).to_owned(),
            optional: false,
        });
    }
    for device in linux.devices().iter().flatten() {
        let target = text(device.path(), "linux.devices")?;
        plan.devices.push(DevicePlan {
            source: device.path().clone(),
            target,
            optional: false,
        });
    }
    for (key, value) in linux.sysctl().iter().flatten() {
        plan.sysctls.push((sysctl_path(key)?, value.clone()));
    }
    if let Some(filter) = linux.seccomp() {
        plan.process.seccomp = Some(seccomp::convert(filter)?);
    }
    if process.terminal().unwrap_or_default() {
        let size = process.console_size();
        plan.terminal = Some(size.map_or((80, 24), |size| (size.width() as u16, size.height() as u16)));
    }
    Ok(plan)
}

/// Enters those namespaces of others that a process can be born in; the rest is left to the container's own process.
pub(super) fn enter_shared(plan: &mut Plan) -> Result<()> {
    let mut left = Vec::new();
    for (kind, path) in std::mem::take(&mut plan.joined) {
        if kind == libc::CLONE_NEWNS {
            return Err(unsupported("linux.namespaces", "joining a mount namespace"));
        }
        if kind == libc::CLONE_NEWUSER || kind == libc::CLONE_NEWCGROUP {
            left.push((kind, path));
            continue;
        }
        let file = std::fs::File::open(&path).map_err(|e| Error::file("open", &path, e))?;
        enter(file, kind).map_err(|e| Error::file("enter", &path, e))?;
    }
    plan.joined = left;
    Ok(())
}

/// The container's directory below each cgroup mount.
pub(super) fn cgroup(spec: &Spec, id: &str) -> Result<String> {
    let path = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.cgroups_path().as_ref());
    let Some(path) = path else {
        return Ok(format!("virga/{id}"));
    };
    let text = text(path, "linux.cgroupsPath")?;
    if Path::new(&text)
        .components()
        .any(|part| part == std::path::Component::ParentDir)
    {
        return Err(Error::spec("linux.cgroupsPath", format!("{text:?} leads out")));
    }
    // slice:prefix:name is for runtimes that ask systemd; a name of our own serves as well.
    if text.contains(':') {
        return Ok(format!("virga/{id}"));
    }
    let name = text.trim_matches('/');
    if name.is_empty() {
        return Err(Error::spec("linux.cgroupsPath", "is the root"));
    }
    Ok(if path.is_absolute() {
        name.to_owned()
    } else {
        format!("virga/{name}")
    })
}

fn extents(mappings: &Option<Vec<LinuxIdMapping>>) -> Vec<IdExtent> {
    let extent = |m: &LinuxIdMapping| IdExtent {
        inside: m.container_id(),
        outside: m.host_id(),
        size: m.size(),
    };
    mappings.iter().flatten().map(extent).collect()
}

fn text(path: &Path, field: &str) -> Result<String> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| Error::spec(field, format!("{} is not UTF-8", path.display())))
}

fn first_process(process: &Process) -> Result<ProcessPlan> {
    let arguments = process.args().clone().filter(|args| !args.is_empty());
    let mut environment = process.env().clone().unwrap_or_default();
    if !environment.iter().any(|variable| variable.starts_with("HOME=")) {
        environment.push(format!(
            "HOME={}",
            if process.user().uid() == 0 { "/root" } else { "/" }
        ));
    }
    let cwd = text(process.cwd(), "process.cwd")?;
    if !Path::new(&cwd).is_absolute() {
        return Err(Error::spec(
            "process.cwd",
            format!("{cwd:?} must be an absolute path"),
        ));
    }
    for (field, value) in [
        ("process.apparmorProfile", process.apparmor_profile()),
        ("process.selinuxLabel", process.selinux_label()),
    ] {
        if value.as_ref().is_some_and(|value| !value.is_empty()) {
            return Err(unsupported(field, "a security label"));
        }
    }
    Ok(ProcessPlan {
        arguments: arguments.ok_or_else(|| Error::spec("process.args", "must name a program"))?,
        environment,
        cwd,
        user: process.user().uid(),
        group: process.user().gid(),
        groups: process.user().additional_gids().clone().unwrap_or_default(),
        // A process without the field has none.
        capabilities: Some(match process.capabilities() {
            Some(sets) => CapabilitySets {
                bounding: cap_set(sets.bounding()),
                effective: cap_set(sets.effective()),
                permitted: cap_set(sets.permitted()),
                inheritable: cap_set(sets.inheritable()),
                ambient: cap_set(sets.ambient()),
            },
            None => CapabilitySets::none(),
        }),
        rlimits: process
            .rlimits()
            .iter()
            .flatten()
            .map(|limit| RlimitPlan {
                resource: resource(limit.typ()),
                soft: limit.soft(),
                hard: limit.hard(),
            })
            .collect(),
        no_new_privs: process.no_new_privileges().unwrap_or_default(),
        seccomp: None,
        umask: process.user().umask(),
        oom_score_adj: process.oom_score_adj(),
    })
}

fn cap_set(list: &Option<Capabilities>) -> capctl::caps::CapSet {
    let mut set = capctl::caps::CapSet::empty();
    set.add_all(
        list.iter()
            .flatten()
            .filter_map(|cap| caps::by_name(&cap.to_string())),
    );
    set
}

fn resource(kind: PosixRlimitType) -> u32 {
    match kind {
        PosixRlimitType::RlimitCpu => libc::RLIMIT_CPU,
        PosixRlimitType::RlimitFsize => libc::RLIMIT_FSIZE,
        PosixRlimitType::RlimitData => libc::RLIMIT_DATA,
        PosixRlimitType::RlimitStack => libc::RLIMIT_STACK,
        PosixRlimitType::RlimitCore => libc::RLIMIT_CORE,
        PosixRlimitType::RlimitRss => libc::RLIMIT_RSS,
        PosixRlimitType::RlimitNproc => libc::RLIMIT_NPROC,
        PosixRlimitType::RlimitNofile => libc::RLIMIT_NOFILE,
        PosixRlimitType::RlimitMemlock => libc::RLIMIT_MEMLOCK,
        PosixRlimitType::RlimitAs => libc::RLIMIT_AS,
        PosixRlimitType::RlimitLocks => libc::RLIMIT_LOCKS,
        PosixRlimitType::RlimitSigpending => libc::RLIMIT_SIGPENDING,
        PosixRlimitType::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
        PosixRlimitType::RlimitNice => libc::RLIMIT_NICE,
        PosixRlimitType::RlimitRtprio => libc::RLIMIT_RTPRIO,
        PosixRlimitType::RlimitRttime => libc::RLIMIT_RTTIME,
    }
}

/// Options that are attributes of the mount; all others go to the file system.
const ATTRIBUTES: &[(&str, u64)] = &[
    ("ro", attr::RDONLY),
    ("nosuid", attr::NOSUID),
    ("nodev", attr::NODEV),
    ("noexec", attr::NOEXEC),
    ("noatime", attr::NOATIME),
    ("strictatime", attr::STRICTATIME),
    ("nodiratime", attr::NODIRATIME),
    ("nosymfollow", attr::NOSYMFOLLOW),
];
/// Options that are the default anyway. Mounts of a container are always private: propagation options mean nothing more.
const DEFAULTS: &[&str] = &[
    "rw",
    "suid",
    "dev",
    "exec",
    "atime",
    "relatime",
    "diratime",
    "defaults",
    "async",
    "norelatime",
    "private",
    "rprivate",
    "slave",
    "rslave",
    "shared",
    "rshared",
    "unbindable",
    "runbindable",
];

fn mount_plan(mount: &Mount, bundle: &Path) -> Result<MountPlan> {
    let target = text(mount.destination(), "mounts.destination")?;
    if !Path::new(&target).is_absolute() || Path::new(&target).components().count() < 2 {
        return Err(Error::spec(
            "mounts.destination",
            format!("{target:?} must be an absolute path below the root"),
        ));
    }
    let (mut attributes, mut options) = (0, Vec::new());
    let (mut bind, mut recursive, mut shift) = (false, false, false);
    for option in mount.options().iter().flatten() {
        match option.as_str() {
            "bind" => bind = true,
            "rbind" => (bind, recursive) = (true, true),
            "idmap" | "ridmap" => shift = true,
            name => {
                if let Some((_, flag)) = ATTRIBUTES.iter().find(|(known, _)| *known == name) {
                    attributes |= flag;
                } else if !DEFAULTS.contains(&name) {
                    options.push(name.to_owned());
                }
            }
        }
    }
    let kind = mount.typ().clone().unwrap_or_else(|| "bind".to_owned());
    let source = match kind.as_str() {
        "cgroup" | "cgroup2" => {
            return Ok(MountPlan {
                target,
                attributes,
                ..system::cgroup_mount(CgroupLayout::Auto)?
            });
        }
        _ if bind || kind == "bind" || kind == "none" => {
            let path: PathBuf = mount.source().clone().unwrap_or_default();
            MountSource::Bind {
                path: bundle.join(path),
                recursive,
                shift,
            }
        }
        _ => {
            // A device or share is a parameter of the file system like others; kernel file systems have none.
            if let Some(source) = mount.source().as_ref().and_then(|source| source.to_str())
                && !source.is_empty()
            {
                options.push(format!("source={source}"));
            }
            MountSource::New { kind, options }
        }
    };
    Ok(MountPlan {
        target,
        source,
        attributes,
        optional: false,
    })
}
