//! The OCI bundle that every runtime gets (OCI runtime-spec, config.md).

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow};
use serde_json::{Value, json};

use crate::process;
use crate::setting::{Setting, find_program};

/// First host id of the containers with a user namespace, and how many.
const IDS: (u32, u32) = (1_000_000, 65536);

/// What the container's process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// Ends at once.
    True,
    /// Says one line and stays.
    Stay,
}

/// A folder with `config.json`.
pub(crate) struct Bundle {
    /// The folder.
    pub(crate) folder: PathBuf,
}

/// Unpacks the image's root file system, or puts one together of a static busybox.
pub(crate) fn rootfs(setting: &Setting, scratch: &Path) -> Result<PathBuf> {
    let rootfs = scratch.join("rootfs");
    for folder in ["bin", "dev", "proc", "sys", "tmp"] {
        fs::create_dir_all(rootfs.join(folder)).context("cannot make a root file system")?;
    }
    if let Some(image) = &setting.image {
        let mut command = Command::new("tar");
        command
            .arg("-C")
            .arg(scratch)
            .arg("-xf")
            .arg(image)
            .args(["--numeric-owner", "rootfs"]);
        process::run(&mut command)?;
    } else {
        let busybox = find_program("busybox")
            .ok_or_else(|| anyhow!("no busybox in PATH; install busybox-static or give --image FILE"))?;
        fs::copy(busybox, rootfs.join("bin/busybox")).context("cannot copy busybox")?;
        for applet in ["true", "sh", "echo", "sleep"] {
            std::os::unix::fs::symlink("busybox", rootfs.join("bin").join(applet))?;
        }
    }
    Ok(rootfs)
}

impl Bundle {
    /// Writes a bundle. One with a user namespace gets a copy of the root file system with its ids, so that
    /// runtimes without id-mapped mounts do the same as those with them.
    pub(crate) fn create(scratch: &Path, rootfs: &Path, task: Task, user_namespace: bool) -> Result<Self> {
        let mut rootfs = rootfs.to_owned();
        if user_namespace {
            let shifted = scratch.join("rootfs-shifted");
            if !shifted.exists() {
                process::run(Command::new("cp").arg("-a").arg(&rootfs).arg(&shifted))?;
                shift(&shifted)?;
            }
            rootfs = shifted;
            // The container's root is somebody else here, and has to get to its files.
            fs::set_permissions(scratch, fs::Permissions::from_mode(0o711))?;
        }
        let folder = scratch.join(format!("bundle-{task:?}-{user_namespace}").to_lowercase());
        fs::create_dir(&folder).context("cannot make a bundle")?;
        let text = config(&rootfs, task, user_namespace).to_string();
        fs::write(folder.join("config.json"), text).context("cannot write a bundle's config.json")?;
        Ok(Self { folder })
    }
}

/// Gives everything below a folder to the container's ids.
fn shift(path: &Path) -> Result<()> {
    chown(path, Some(IDS.0), Some(IDS.0)).or_else(|error| match path.is_symlink() {
        true => Ok(()),
        false => Err(error).with_context(|| format!("cannot change the owner of {}", path.display())),
    })?;
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path)? {
            let path = entry?.path();
            if !path.is_symlink() {
                shift(&path)?;
            }
        }
    }
    Ok(())
}

fn config(rootfs: &Path, task: Task, user_namespace: bool) -> Value {
    let arguments = match task {
        Task::True => json!(["/bin/true"]),
        Task::Stay => json!(["/bin/sh", "-c", "echo up; exec sleep 600"]),
    };
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let mount = |target: &str, kind: &str, options: &[&str]| json!({"destination": target, "type": kind, "source": kind, "options": options});
    let mut namespaces: Vec<Value> = ["pid", "ipc", "uts", "mount", "network"]
        .map(|name| json!({ "type": name }))
        .into();
    let mut linux = json!({
        "resources": { "devices": [{ "allow": false, "access": "rwm" }], "memory": { "limit": 268_435_456 } },
        "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
        "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    });
    if user_namespace {
        namespaces.push(json!({ "type": "user" }));
        let mapping = json!([{ "containerID": 0, "hostID": IDS.0, "size": IDS.1 }]);
        linux["uidMappings"] = mapping.clone();
        linux["gidMappings"] = mapping;
    }
    linux["namespaces"] = namespaces.into();
    json!({
        "ociVersion": "1.0.0",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": arguments,
            "env": ["PATH=/bin:/sbin:/usr/bin:/usr/sbin"],
            "cwd": "/",
            "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
            "noNewPrivileges": true,
        },
        "root": { "path": rootfs, "readonly": false },
        "hostname": "bench",
        "mounts": [
            mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        ],
        "linux": linux,
    })
}

#[cfg(test)]
#[path = "bundle_tests.rs"]
mod tests;
