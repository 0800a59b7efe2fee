//! Work inside another process's network namespace.
//!
//! setns(2) moves one thread, and a thread that was moved is of no use to anyone else: each visit has a
//! thread of its own, with a small runtime, that ends with the visit.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use nix::sched::{CloneFlags, setns};

use crate::netlink::Netlink;
use crate::{Error, Result};

/// The network namespace of a process, held so that it cannot come to mean another process's.
pub(crate) fn of_process(pid: u32) -> Result<OwnedFd> {
    let file =
        File::open(format!("/proc/{pid}/ns/net")).map_err(|source| Error::NoNamespace { pid, source })?;
    Ok(file.into())
}

/// Runs `work` with a netlink socket of the namespace, on a thread inside it.
pub(crate) async fn inside<T, F>(namespace: OwnedFd, work: F) -> Result<T>
where
    T: Send + 'static,
    F: AsyncFnOnce(Netlink) -> Result<T> + Send + 'static,
{
    let (answer, answered) = tokio::sync::oneshot::channel();
    let visit = move || {
        setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)
            .map_err(|errno| Error::system("enter a network namespace")(errno.into()))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .map_err(Error::system("start a runtime in a network namespace"))?;
        runtime.block_on(async { work(Netlink::open()?).await })
    };
    std::thread::Builder::new()
        .name("netns".to_owned())
        .spawn(move || {
            // Nobody listening means that the caller was dropped; the work is done all the same.
            let _ = answer.send(visit());
        })
        .map_err(Error::system("start a thread for a network namespace"))?;
    answered.await.map_err(|_| {
        Error::system("work in a network namespace")(std::io::Error::other(
            "the thread ended without an answer",
        ))
    })?
}
