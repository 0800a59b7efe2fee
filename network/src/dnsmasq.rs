//! DHCP, DNS and router advertisements of a network: one dnsmasq process, which outlives the daemon.
//!
//! Its whole configuration stands in its command line, so a running process tells by itself whether it is
//! ours and whether it is up to date: same arguments, same link, same network namespace. Otherwise it is
//! replaced. dnsmasq puts itself into the background once it serves, and gives up root then.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::unistd::{Gid, Group, Uid, User};

use crate::folder::Folder;
use crate::keys::DnsMode;
use crate::process::Process;
use crate::{BridgeConfig, Error, Result};

/// The variable that tells which link (by index) the process was started for: a link that was removed and
/// made again has the same name, but dnsmasq's sockets are bound to the old one.
const LINK_VARIABLE: &str = "VIRGA_LINK_INDEX";
/// Users that dnsmasq may run as, best first: Debian's own, then the one every system has.
const USERS: [&str; 2] = ["dnsmasq", "nobody"];
/// dnsmasq's own limit of 1000 leases is too low for a host full of microVMs.
const MOST_LEASES: u32 = 65_536;

/// Makes sure that exactly one dnsmasq serves the network as configured. Blocks.
pub(crate) fn ensure(folder: &Folder, config: &BridgeConfig, link_index: u32) -> Result<()> {
    let wanted = arguments(folder, config);
    let index = link_index.to_string();
    let mut running = find(folder);
    if let Some(wanted) = &wanted
        && let [process] = running.as_slice()
        && process.arguments().get(1..) == Some(wanted.as_slice())
        && process.variable(LINK_VARIABLE).as_deref() == Some(index.as_str())
        && process.shares_network()
    {
        tracing::debug!(network = config.name, "dnsmasq serves already");
        return Ok(());
    }
    for process in running.drain(..) {
        process
            .end()
            .map_err(|error| failed(&config.name, error.to_string()))?;
    }
    match wanted {
        Some(wanted) => start(&config.name, &wanted, &index),
        None => Ok(()),
    }
}

/// Ends the network's dnsmasq, if there is one. Blocks.
pub(crate) fn stop(folder: &Folder, network: &str) -> Result<()> {
    for process in find(folder) {
        process
            .end()
            .map_err(|error| failed(network, error.to_string()))?;
    }
    crate::files::remove(&folder.pid_file())?;
    Ok(())
}

/// Has dnsmasq read all its files again; needed when entries were removed or changed.
pub(crate) fn reload(folder: &Folder, network: &str) -> Result<()> {
    for process in find(folder) {
        process
            .signal(libc::SIGHUP)
            .map_err(|error| failed(network, error.to_string()))?;
    }
    Ok(())
}

/// Ends every dnsmasq below `networks` that serves none of the expected networks; tells which they served.
pub(crate) fn stop_others(networks: &Path, is_expected: impl Fn(&str) -> bool) -> Result<Vec<String>> {
    let served = |word: &str| {
        let path = Path::new(word.strip_prefix("--pid-file=")?);
        let folder = path.parent().filter(|folder| folder.parent() == Some(networks))?;
        folder.file_name()?.to_str().map(str::to_owned)
    };
    let mut stopped = Vec::new();
    for process in Process::with_argument(|word| served(word).is_some_and(|name| !is_expected(&name))) {
        let name = process
            .arguments()
            .iter()
            .find_map(|word| served(word))
            .unwrap_or_default();
        process.end().map_err(|error| failed(&name, error.to_string()))?;
        stopped.push(name);
    }
    Ok(stopped)
}

/// The processes that serve the network. More than one can only be the work of someone else, but is dealt
/// with.
fn find(folder: &Folder) -> Vec<Process> {
    let mark = format!("--pid-file={}", folder.pid_file().display());
    let recorded = fs::read_to_string(folder.pid_file())
        .ok()
        .and_then(|text| Process::open(text.trim().parse().ok()?))
        .filter(|process| process.arguments().contains(&mark));
    match recorded {
        Some(process) => vec![process],
        // The pid file is written late in dnsmasq's start, so the daemon may have been killed before it was
        // there.
        None => Process::with_argument(|word| word == mark),
    }
}

fn start(network: &str, arguments: &[String], link_index: &str) -> Result<()> {
    let output = Command::new("dnsmasq")
        .args(arguments)
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .env(LINK_VARIABLE, link_index)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| failed(network, start_failure(&error)))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(
        network,
        String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    ))
}

fn failed(network: &str, message: String) -> Error {
    Error::Program {
        program: "dnsmasq",
        network: network.to_owned(),
        message,
    }
}

fn start_failure(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "it is not installed (Debian's package dnsmasq-base)".to_owned(),
        _ => error.to_string(),
    }
}

/// dnsmasq's command line (dnsmasq(8)) without its name, or `None` when there is nothing to serve.
fn arguments(folder: &Folder, config: &BridgeConfig) -> Option<Vec<String>> {
    if config.ipv4.is_none() && config.ipv6.is_none() {
        return None;
    }
    let (user, group) = user_for(folder.root());
    let mut words = vec![
        // An empty name: the host's own configuration is not ours to read.
        "--conf-file=".to_owned(),
        format!("--pid-file={}", folder.pid_file().display()),
        format!("--user={user}"),
        format!("--group={group}"),
        format!("--interface={}", config.name),
        "--bind-interfaces".to_owned(),
        "--except-interface=lo".to_owned(),
        "--no-hosts".to_owned(),
        "--quiet-dhcp".to_owned(),
        "--quiet-dhcp6".to_owned(),
        "--quiet-ra".to_owned(),
    ];
    dns_arguments(folder, config, &mut words);
    let range_count = words.len();
    ipv4_arguments(config, &mut words);
    ipv6_arguments(config, &mut words);
    if words.len() > range_count {
        words.extend([
            // Nobody else serves this link, so nobody has to be waited for.
            "--dhcp-authoritative".to_owned(),
            "--dhcp-rapid-commit".to_owned(),
            "--no-ping".to_owned(),
            "--dhcp-no-override".to_owned(),
            format!("--dhcp-lease-max={MOST_LEASES}"),
            format!("--dhcp-leasefile={}", folder.leases().display()),
            format!("--dhcp-hostsdir={}", folder.hosts().display()),
        ]);
    }
    Some(words)
}

fn dns_arguments(folder: &Folder, config: &BridgeConfig, words: &mut Vec<String>) {
    match config.dns_mode {
        DnsMode::None => return words.push("--port=0".to_owned()),
        DnsMode::Managed => words.push("--dhcp-ignore-names".to_owned()),
        DnsMode::Dynamic => {}
    }
    words.extend([
        format!("--domain={}", config.dns_domain),
        // Names of this domain are never asked for upstream.
        format!("--local=/{}/", config.dns_domain),
        "--expand-hosts".to_owned(),
        format!("--interface-name=_gateway.{},{}", config.dns_domain, config.name),
        format!("--hostsdir={}", folder.names().display()),
    ]);
}

fn ipv4_arguments(config: &BridgeConfig, words: &mut Vec<String>) {
    let Some(net) = config.ipv4.filter(|_| config.ipv4_dhcp) else {
        return;
    };
    let expiry = &config.ipv4_dhcp_expiry;
    let mut ranges: Vec<_> = config
        .ipv4_dhcp_ranges
        .iter()
        .map(|range| (range.first, range.last))
        .collect();
    if ranges.is_empty()
        && let (Some(first), Some(last)) = (net.hosts().next(), net.hosts().next_back())
    {
        ranges.push((first, last));
    }
    // dnsmasq itself leaves out its own address and those reserved for others.
    let mask = net.netmask();
    words.extend(
        ranges
            .iter()
            .map(|(first, last)| format!("--dhcp-range={first},{last},{mask},{expiry}")),
    );
    if let Some(gateway) = config.ipv4_dhcp_gateway {
        words.push(format!("--dhcp-option-force=option:router,{gateway}"));
    }
    if config.mtu != 1500 {
        words.push(format!("--dhcp-option-force=option:mtu,{}", config.mtu));
    }
    if !config.dns_search.is_empty() {
        words.push(format!(
            "--dhcp-option-force=option:domain-search,{}",
            config.dns_search.join(",")
        ));
    }
}

fn ipv6_arguments(config: &BridgeConfig, words: &mut Vec<String>) {
    let Some(net) = config.ipv6 else { return };
    let (length, expiry) = (net.prefix_len(), &config.ipv6_dhcp_expiry);
    let by_itself = length == 64;
    let constructor = format!("--dhcp-range=::,constructor:{}", config.name);
    if config.ipv6_dhcp && config.ipv6_dhcp_stateful && length >= 64 {
        let mut ranges: Vec<_> = config
            .ipv6_dhcp_ranges
            .iter()
            .map(|range| (range.first, range.last))
            .collect();
        if ranges.is_empty() {
            let network = u128::from(net.network());
            ranges.push(((network + 2).into(), net.broadcast()));
        }
        words.extend(
            ranges
                .iter()
                .map(|(first, last)| format!("--dhcp-range={first},{last},{length},{expiry}")),
        );
    } else if config.ipv6_dhcp && by_itself {
        words.push(format!("{constructor},ra-stateless,ra-names"));
    } else if by_itself {
        words.push(format!("{constructor},ra-only"));
    } else {
        // Hosts can choose addresses only in a /64 (RFC 4862 §5.5.3 with 64-bit identifiers).
        return;
    }
    words.push("--enable-ra".to_owned());
    if config.dns_mode != DnsMode::None {
        words.push(format!("--dhcp-option=option6:dns-server,[{}]", net.addr()));
    }
    if !config.dns_search.is_empty() {
        words.push(format!(
            "--dhcp-option=option6:domain-search,{}",
            config.dns_search.join(",")
        ));
    }
}

/// The user and group that dnsmasq becomes: an unprivileged one, unless such a user could not reach the
/// folder.
fn user_for(folder: &Path) -> (String, String) {
    let root = || ("root".to_owned(), "root".to_owned());
    if let Some(closed) = folder.ancestors().find(|ancestor| !lets_others_pass(ancestor)) {
        let folder = closed.display();
        tracing::warn!(%folder, "dnsmasq runs as root, because this folder lets no other user pass");
        return root();
    }
    let known = USERS.iter().find_map(|name| User::from_name(name).ok().flatten());
    let Some(user) = known.filter(|user| user.uid != Uid::from_raw(0)) else {
        return root();
    };
    match Group::from_gid(user.gid) {
        Ok(Some(group)) if group.gid != Gid::from_raw(0) => (user.name, group.name),
        _ => root(),
    }
}

fn lets_others_pass(folder: &Path) -> bool {
    folder.as_os_str().is_empty() || fs::metadata(folder).is_ok_and(|meta| meta.mode() & 0o001 != 0)
}
