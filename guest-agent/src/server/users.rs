//! Users and groups of the instance, from its files.
//!
//! A static program has no name service, and must not load the instance's libraries: `/etc/passwd` and
//! `/etc/group` are read by hand (passwd(5), group(5)).

use std::fs::File;
use std::io::Read;

/// Larger files are cut off: they come from the instance and are read into memory.
const LONGEST_FILE: u64 = 8 << 20;

/// The kernel's `NGROUPS_MAX`.
const MOST_GROUPS: usize = 65_536;

/// What a command needs to know about its user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    /// Login name.
    pub(super) name: String,
    /// Home directory.
    pub(super) home: String,
}

/// Looks a user up. Root has a name and a home even where no file tells.
pub(super) fn user(uid: u32) -> Option<User> {
    find_user(&read("/etc/passwd"), uid).or_else(|| {
        (uid == 0).then(|| User {
            name: "root".into(),
            home: "/root".into(),
        })
    })
}

/// The groups `name` is a member of, with `primary` in front.
pub(super) fn groups(name: Option<&str>, primary: u32) -> Vec<u32> {
    match name {
        Some(name) => find_groups(&read("/etc/group"), name, primary),
        None => vec![primary],
    }
}

/// Id of a group.
pub(super) fn group_id(name: &str) -> Option<u32> {
    find_group_id(&read("/etc/group"), name)
}

fn read(path: &str) -> String {
    let mut bytes = Vec::new();
    // A missing or broken file is an instance without users: commands then run with ids alone.
    if let Ok(file) = File::open(path) {
        let _ = file.take(LONGEST_FILE).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn find_user(passwd: &str, uid: u32) -> Option<User> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let id: u32 = fields.nth(1)?.parse().ok()?;
        let home = fields.nth(2)?;
        let home = if home.is_empty() { "/" } else { home };
        (id == uid).then(|| User {
            name: name.into(),
            home: home.into(),
        })
    })
}

fn find_groups(group: &str, user: &str, primary: u32) -> Vec<u32> {
    let mut ids = vec![primary];
    let memberships = group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let id: u32 = fields.nth(2)?.parse().ok()?;
        fields
            .next()?
            .split(',')
            .any(|member| member.trim() == user)
            .then_some(id)
    });
    for id in memberships {
        if ids.len() < MOST_GROUPS && !ids.contains(&id) {
            ids.push(id);
        }
    }
    ids
}

fn find_group_id(group: &str, name: &str) -> Option<u32> {
    group.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name)
            .then(|| fields.nth(1)?.parse().ok())
            .flatten()
    })
}

#[cfg(test)]
#[path = "users_tests.rs"]
mod tests;
