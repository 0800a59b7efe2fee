//! The machine's name, and its name servers.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::BootError;
use crate::config::NicConfig;

/// Name servers that resolv.conf(5) allows; more are ignored by the C library.
const MOST_NAME_SERVERS: usize = 3;

/// Tells the kernel, `/etc/hostname` (systemd reads the name from there) and `/etc/hosts`.
pub(super) fn set_hostname(root: &Path, hostname: &str) -> Result<(), BootError> {
    nix::unistd::sethostname(hostname)
        .map_err(BootError::because(format_args!("set the host name {hostname:?}")))?;
    write_names(root, hostname).map_err(BootError::because("write /etc/hostname and /etc/hosts"))
}

fn write_names(root: &Path, hostname: &str) -> io::Result<()> {
    let etc = root.join("etc");
    fs::create_dir_all(&etc)?;
    let file = etc.join("hostname");
    let line = format!("{hostname}\n");
    if fs::read_to_string(&file).ok().as_deref() != Some(&line) {
        fs::write(&file, line)?;
    }
    let file = etc.join("hosts");
    match fs::read_to_string(&file) {
        Ok(hosts) if names(&hosts).any(|name| name == hostname) => Ok(()),
        Ok(mut hosts) => {
            if !hosts.is_empty() && !hosts.ends_with('\n') {
                hosts.push('\n');
            }
            fs::write(&file, format!("{hosts}127.0.1.1\t{hostname}\n"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let hosts = format!(
                "127.0.0.1\tlocalhost\n127.0.1.1\t{hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n"
            );
            fs::write(&file, hosts)
        }
        Err(error) => Err(error),
    }
}

/// All names of a hosts(5) file.
fn names(hosts: &str) -> impl Iterator<Item = &str> {
    hosts.lines().flat_map(|line| {
        line.split('#')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .skip(1)
    })
}

/// Writes the interfaces' name servers to `/etc/resolv.conf`.
///
/// A plain file there is what the image happened to be built with, and is replaced. A symbolic link says that
/// the image runs something that manages it: it is followed, so that names resolve until (and if ever) that
/// something writes its own.
pub(super) fn write_resolv_conf(root: &Path, nics: &[NicConfig]) -> Result<(), BootError> {
    match resolv_conf(nics) {
        Some(text) => put_resolv_conf(root, &text).map_err(BootError::because("write /etc/resolv.conf")),
        None => Ok(()),
    }
}

fn resolv_conf(nics: &[NicConfig]) -> Option<String> {
    let mut seen = BTreeSet::new();
    let servers: Vec<&IpAddr> = nics
        .iter()
        .flat_map(|nic| &nic.dns)
        .filter(|server| seen.insert(**server))
        .collect();
    if servers.is_empty() {
        return None;
    }
    let mut seen = BTreeSet::new();
    let search: Vec<&str> = nics
        .iter()
        .flat_map(|nic| &nic.search)
        .map(String::as_str)
        .filter(|domain| !domain.contains(char::is_whitespace) && seen.insert(*domain))
        .collect();
    let mut text = String::new();
    if !search.is_empty() {
        text.push_str(&format!("search {}\n", search.join(" ")));
    }
    for server in servers.into_iter().take(MOST_NAME_SERVERS) {
        text.push_str(&format!("nameserver {server}\n"));
    }
    Some(text)
}

fn put_resolv_conf(root: &Path, text: &str) -> io::Result<()> {
    let path = root.join("etc/resolv.conf");
    let file = match fs::read_link(&path) {
        Ok(target) => within(root, Path::new("etc"), &target),
        Err(_) => path,
    };
    if let Some(parent) = file.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(file, text)
}

/// Where a link in `directory` leads, seen from outside `root`.
fn within(root: &Path, directory: &Path, target: &Path) -> PathBuf {
    let mut path = PathBuf::new();
    for part in directory.join(target).components() {
        match part {
            std::path::Component::RootDir => path.clear(),
            std::path::Component::ParentDir => drop(path.pop()),
            std::path::Component::Normal(name) => path.push(name),
            _ => {}
        }
    }
    root.join(path)
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
