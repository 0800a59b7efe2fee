//! Becoming an unprivileged user for good.
//!
//! Everything that needs a privilege (disks, taps, sockets, `/dev/kvm`) is open by now.

use std::fs::File;
use std::io;

use nix::unistd::{Gid, Uid, geteuid, setgroups, setresgid, setresuid};

use crate::config::SandboxConfig;

/// Highest capability number that any kernel knows; asking for more than this one knows ends the loop early.
const LAST_CAPABILITY: libc::c_ulong = 63;
/// Version 3 of the capability structures: two words of 32 bits (capset(2)).
const CAPABILITY_VERSION: u32 = 0x2008_0522;

fn prctl(option: libc::c_int, value: libc::c_ulong) -> io::Result<()> {
    // SAFETY: these options take plain numbers and touch no memory of ours.
    match unsafe { libc::prctl(option, value, 0, 0, 0) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Hands files in the run directory to the user that this process becomes, so that it can end cleanly.
pub fn hand_over(run_dir: &File, config: &SandboxConfig) -> io::Result<()> {
    let Some(uid) = config.uid.filter(|uid| geteuid().is_root() && *uid != 0) else {
        return Ok(());
    };
    let gid = config.gid.unwrap_or(uid);
    Ok(nix::unistd::fchown(
        run_dir,
        Some(Uid::from_raw(uid)),
        Some(Gid::from_raw(gid)),
    )?)
}

/// Becomes the configured user, with its group and no others. Capabilities stay until [`drop_all`].
pub fn become_user(config: &SandboxConfig) -> io::Result<()> {
    let is_root = geteuid().is_root();
    if is_root {
        setgroups(&[])?;
    }
    let Some(uid) = config.uid else { return Ok(()) };
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(config.gid.unwrap_or(uid)));
    if !is_root && uid != geteuid() {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("only root can become user {uid}; start this as root or leave sandbox.uid out"),
        ));
    }
    prctl(libc::PR_SET_KEEPCAPS, 1)?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    if is_root {
        // Changing the user has left them permitted, but not in effect.
        let permitted = capabilities()?;
        set_capabilities([permitted[1], permitted[1], 0, permitted[4], permitted[4], 0])?;
    }
    Ok(())
}

/// Drops all capabilities. There is no way back: `no_new_privs` is set.
pub fn drop_all() -> io::Result<()> {
    for capability in 0..=LAST_CAPABILITY {
        match prctl(libc::PR_CAPBSET_DROP, capability) {
            Ok(()) => {}
            // Beyond the last one; or the process is not privileged, and then the set is of no use to it.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EPERM)) => break,
            Err(error) => return Err(error),
        }
    }
    prctl(
        libc::PR_CAP_AMBIENT,
        libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong,
    )?;
    set_capabilities([0; 6])?;
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1)
}

/// No core dumps with guest memory in them, and no attaching by others of the same user.
pub fn hide() -> io::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, 0)
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

/// Effective, permitted and inheritable sets, low words first, then high words.
type Sets = [u32; 6];

const HEADER: Header = Header {
    version: CAPABILITY_VERSION,
    pid: 0,
};

fn capabilities() -> io::Result<Sets> {
    let header = HEADER;
    let mut sets = Sets::default();
    // SAFETY: both structures have the layout of version 3 and live for the call, which writes the second one only.
    match unsafe { libc::syscall(libc::SYS_capget, &raw const header, sets.as_mut_ptr()) } {
        0 => Ok(sets),
        _ => Err(io::Error::last_os_error()),
    }
}

fn set_capabilities(sets: Sets) -> io::Result<()> {
    let header = HEADER;
    // SAFETY: both structures have the layout of version 3 and live for the call, which only reads them.
    match unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
