//! Names that end up in file paths, kernel tables and configuration of other programs, and so are checked
//! first.

use crate::{Error, Result};

/// Checks the name of a link or network: 2 to 15 bytes (`IFNAMSIZ` less its zero) of letters, digits, `-`,
/// `_` and `.`. The kernel itself would take nearly anything without a slash.
pub fn check_interface_name(name: &str) -> Result<()> {
    let refuse = |reason| {
        Err(Error::InvalidName {
            name: name.to_owned(),
            reason,
        })
    };
    if name.len() < 2 {
        return refuse("a network interface name has at least 2 characters");
    }
    if name.len() > 15 {
        return refuse("a network interface name has at most 15 characters");
    }
    if !name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    {
        return refuse("a network interface name has only letters, digits, '-', '_' and '.'");
    }
    // ".." would leave the network's folder; "-x" would be an option on a command line.
    if name == ".." || name.starts_with('-') {
        return refuse("a network interface name does not start with '-' and is not '..'");
    }
    // The folders all and default of /proc/sys/net/*/conf stand for every link.
    if name == "all" || name == "default" {
        return refuse("the name is reserved by the kernel");
    }
    Ok(())
}

/// Checks a host name (one label, RFC 1123 §2.1): letters, digits and `-`, at most 63, no `-` at either end.
pub fn check_host_name(name: &str) -> Result<()> {
    let refuse = |reason| {
        Err(Error::InvalidName {
            name: name.to_owned(),
            reason,
        })
    };
    if name.is_empty() || name.len() > 63 {
        return refuse("a host name has 1 to 63 characters");
    }
    if !name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    {
        return refuse("a host name has only letters, digits and '-'");
    }
    if name.starts_with('-') || name.ends_with('-') {
        return refuse("a host name does not start or end with '-'");
    }
    Ok(())
}

/// Checks a domain name: labels separated by dots, at most 253 bytes.
pub(crate) fn check_domain(name: &str) -> Result<()> {
    if name.len() > 253 {
        return Err(Error::InvalidName {
            name: name.to_owned(),
            reason: "a domain name has at most 253 characters",
        });
    }
    name.split('.').try_for_each(check_host_name)
}

/// Checks the key of a reservation, which becomes a file name that dnsmasq must not skip: no leading dot, no
/// trailing `~`, no path.
pub(crate) fn check_key(name: &str) -> Result<()> {
    let refuse = |reason| {
        Err(Error::InvalidName {
            name: name.to_owned(),
            reason,
        })
    };
    if name.is_empty() || name.len() > 200 {
        return refuse("a reservation key has 1 to 200 characters");
    }
    if !name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    {
        return refuse("a reservation key has only letters, digits, '-', '_' and '.'");
    }
    if name.starts_with('.') {
        return refuse("a reservation key does not start with '.'");
    }
    Ok(())
}
