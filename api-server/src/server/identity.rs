//! Who is at the other end of a unix socket.

use nix::unistd::{Gid, Uid, User};
use tokio::net::UnixStream;

use crate::request::Requestor;

/// Users who may talk to the daemon: root, the daemon's own user and members of the socket's group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowed {
    /// The socket's group, when it has one.
    pub(super) group: Option<Gid>,
}

/// Who a client is, or `None` when it may not talk to us.
pub(super) fn identify(stream: &UnixStream, allowed: Allowed) -> Option<Requestor> {
    let peer = stream.peer_cred().ok()?;
    let uid = Uid::from_raw(peer.uid());
    if uid.is_root() {
        // Needs no look-up, and is who almost always asks.
        return Some(Requestor::daemon());
    }
    let user = User::from_uid(uid).ok().flatten();
    let may = uid == Uid::effective()
        || allowed.group.is_some_and(|group| {
            peer.gid() == group.as_raw() || user.as_ref().is_some_and(|user| is_member(user, group))
        });
    may.then(|| Requestor {
        username: user.map_or_else(|| format!("uid={uid}"), |user| user.name),
        protocol: "unix",
        address: "@".to_owned(),
    })
}

fn is_member(user: &User, group: Gid) -> bool {
    std::ffi::CString::new(user.name.as_str())
        .ok()
        .and_then(|name| nix::unistd::getgrouplist(&name, user.gid).ok())
        .is_some_and(|groups| groups.contains(&group))
}
