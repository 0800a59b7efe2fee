//! Kernel settings under `/proc/sys/net`, which always concern the network namespace of the calling thread.
//!
//! Settings of a link that Virga made are simply written. Forwarding is a setting of the whole host: it is
//! switched on only when a network needs it, what was there before is recorded first, and it is put back when
//! the last such network goes. The record carries the boot it belongs to: after a reboot the kernel's values
//! are the administrator's again.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

const ROOT: &str = "/proc/sys/net";

/// An address family's host-wide settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The name that files about it have. Longer than any link's name, so that none is a network's folder.
    fn record(self) -> &'static str {
        match self {
            Self::V4 => "forwarding-ipv4.json",
            Self::V6 => "forwarding-ipv6.json",
        }
    }

    /// The mark in a network's folder that it needs forwarding.
    fn mark(self) -> &'static str {
        match self {
            Self::V4 => "forwards-ipv4",
            Self::V6 => "forwards-ipv6",
        }
    }

    fn switch(self) -> &'static str {
        match self {
            Self::V4 => "ipv4/ip_forward",
            Self::V6 => "ipv6/conf/all/forwarding",
        }
    }
}

/// What was changed on this boot, and from what.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Record {
    boot_id: String,
    changes: BTreeMap<String, Change>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Change {
    before: String,
    set: String,
}

/// Whether this namespace has IPv6.
pub(crate) fn has_ipv6() -> bool {
    Path::new(ROOT).join("ipv6").exists()
}

/// Keeps a port of a bridge free of addresses of its own, which would send its own IPv6 chatter.
pub(crate) fn disable_ipv6(link: &str) -> Result<()> {
    write_link("ipv6", link, "disable_ipv6", "1")
}

/// Sets one setting of one link; where IPv6 is missing, its settings count as set.
pub(crate) fn write_link(family: &str, link: &str, setting: &str, value: &str) -> Result<()> {
    if family == "ipv6" && !has_ipv6() {
        return Ok(());
    }
    write(&format!("{family}/conf/{link}/{setting}"), value)
}

/// Notes that a network does or does not need the host to forward, and makes the host follow.
pub(crate) fn forward(networks: &Path, network: &str, family: Family, wanted: bool) -> Result<()> {
    let mark = networks.join(network).join(family.mark());
    if wanted {
        fs::write(&mark, b"").map_err(Error::io("write", &mark))?;
        switch_on(networks, family)
    } else {
        match fs::remove_file(&mark) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Error::io("remove", &mark)(error));
            }
            _ => {}
        }
        restore_unneeded(networks, family)
    }
}

/// Puts the host's settings back if no network needs them any more.
pub(crate) fn restore_unneeded(networks: &Path, family: Family) -> Result<()> {
    let path = networks.join(family.record());
    if !path.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(networks).map_err(Error::io("list", networks))? {
        let entry = entry.map_err(Error::io("list", networks))?;
        if entry.path().join(family.mark()).exists() {
            return Ok(());
        }
    }
    let record = load(&path);
    // The switch goes first: Linux changes other settings along with it.
    let mut changes: Vec<_> = record.changes.iter().collect();
    changes.sort_by_key(|(key, _)| *key != family.switch());
    for (key, change) in changes {
        // Someone else may have had a say meanwhile; and links come and go.
        if read(key).is_ok_and(|now| now == change.set) {
            write(key, &change.before)?;
        }
    }
    fs::remove_file(&path).map_err(Error::io("remove", &path))
}

fn switch_on(networks: &Path, family: Family) -> Result<()> {
    let path = networks.join(family.record());
    let mut record = load(&path);
    let mut wanted = Vec::new();
    if family == Family::V6 {
        if !has_ipv6() {
            return Ok(());
        }
        // A host that forwards no longer listens to router advertisements where accept_ra is 1, and would
        // lose its own uplink (Documentation/networking/ip-sysctl.rst, accept_ra): 2 keeps it listening.
        for link in fs::read_dir(Path::new(ROOT).join("ipv6/conf"))
            .map_err(Error::io("list", ROOT))?
            .flatten()
        {
            if let Some(link) = link.file_name().to_str()
                && link != "all"
            {
                let key = format!("ipv6/conf/{link}/accept_ra");
                if read(&key).is_ok_and(|value| value == "1") {
                    wanted.push((key, "2"));
                }
            }
        }
    }
    wanted.push((family.switch().to_owned(), "1"));
    for (key, value) in wanted {
        let before = read(&key).map_err(Error::io("read", Path::new(ROOT).join(&key)))?;
        if before == value {
            continue;
        }
        // Recorded before it is done: a crash in between costs nothing, the other order would lose the old
        // value.
        record.changes.entry(key.clone()).or_insert(Change {
            before,
            set: value.to_owned(),
        });
        store(&path, &record)?;
        write(&key, value)?;
    }
    Ok(())
}

fn load(path: &Path) -> Record {
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_owned();
    fs::read(path)
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok())
        .filter(|record| record.boot_id == boot_id)
        .unwrap_or(Record {
            boot_id,
            changes: BTreeMap::new(),
        })
}

fn store(path: &Path, record: &Record) -> Result<()> {
    let bytes = serde_json::to_vec(record).map_err(|error| Error::io("write", path)(error.into()))?;
    crate::files::replace(path, &bytes, 0o600)
}

fn read(key: &str) -> io::Result<String> {
    fs::read_to_string(Path::new(ROOT).join(key)).map(|value| value.trim().to_owned())
}

fn write(key: &str, value: &str) -> Result<()> {
    let path: PathBuf = Path::new(ROOT).join(key);
    if read(key).is_ok_and(|now| now == value) {
        return Ok(());
    }
    fs::write(&path, value).map_err(Error::io("write", &path))
}
