//! Network interfaces.

use std::os::fd::RawFd;
use std::path::PathBuf;

use devices::virtio::net::{MAX_QUEUE_PAIRS, MTU_MIN, NetLimits};
use serde::{Deserialize, Serialize};

use super::check_limits;
use super::error::{ConfigError, refuse};
use super::names::Names;
use crate::mac::MacAddress;

/// A virtio network device over a tap or macvtap link. The link is named by one of `tap`, `fd` and `fds`, or
/// a vhost-user back end has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetConfig {
    /// Name of the device within the VM.
    pub id: String,
    /// Name of an existing tap link to open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tap: Option<String>,
    /// Number of an inherited, open tap file, or of a macvtap link's `/dev/tapN`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fd: Option<RawFd>,
    /// The same for a link with several queues: one descriptor for each pair of the guest's queues.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fds: Vec<RawFd>,
    /// The socket of a vhost-user back end that has the link, or `fd:N` for one that is connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vhost_user: Option<PathBuf>,
    /// Let the host's kernel move the frames between guest and tap (vhost-net).
    #[serde(default)]
    pub vhost: bool,
    /// Inherited descriptors of `/dev/vhost-net`, one for each pair of queues; without them it is opened.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vhost_fds: Vec<RawFd>,
    /// Hardware address of the guest's interface.
    pub mac: MacAddress,
    /// MTU announced to the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// Pairs of queues, each with a thread of its own; as many as `fds`, otherwise 1 unless given. A tap with several has to
    /// be made for that (`ip tuntap add ... multi_queue`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_pairs: Option<u16>,
    /// How much may pass each way.
    #[serde(default)]
    pub limits: NetLimits,
}

impl NetConfig {
    /// Checks the interface, which the document has at `field`, beside what `names` says is taken.
    pub fn check(&self, field: &str, names: &mut Names) -> Result<(), ConfigError> {
        let field = |name: &str| format!("{field}.{name}");
        names.take_id(&field("id"), &self.id)?;
        self.check_link(&field, names)?;
        names.take_mac(&field("mac"), self.mac)?;
        if let Some(mtu) = self.mtu
            && mtu < MTU_MIN
        {
            let problem = format!("use {MTU_MIN} to 65535 (virtio 1.3 §5.1.4)");
            return Err(refuse(field("mtu"), mtu, problem));
        }
        self.check_vhost(&field, names)?;
        check_limits(&field("limits.receive"), &self.limits.receive)?;
        check_limits(&field("limits.transmit"), &self.limits.transmit)
    }

    fn check_link(&self, field: &impl Fn(&str) -> String, names: &mut Names) -> Result<(), ConfigError> {
        if let Some(socket) = &self.vhost_user {
            if self.tap.is_some() || self.taps().next().is_some() {
                let problem = "a vhost-user back end has the link; leave `tap`, `fd` and `fds` out";
                return Err(refuse(field("vhost_user"), format!("{socket:?}"), problem));
            }
            return names.take_path(&field("vhost_user"), socket);
        }
        match (&self.tap, self.fd, self.fds.as_slice()) {
            (Some(tap), None, []) if tap.is_empty() || tap.len() > 15 || tap.contains(['/', ' ', '\0']) => {
                let problem = "a link's name has 1 to 15 characters without / and spaces";
                return Err(refuse(field("tap"), format!("{tap:?}"), problem));
            }
            (Some(_), None, []) => {}
            (None, Some(fd), []) => names.take_fd(&field("fd"), fd)?,
            (None, None, fds @ [_, ..]) => {
                for (index, fd) in fds.iter().enumerate() {
                    names.take_fd(&field(&format!("fds[{index}]")), *fd)?;
                }
            }
            _ => {
                let problem = "give either `tap` or `fd` or `fds` or `vhost_user`";
                return Err(refuse(field("tap"), "not clear", problem));
            }
        }
        let pairs = self.queue_pairs();
        let given = match (self.fd, self.fds.len()) {
            (Some(_), _) => Some(1),
            (None, 0) => None,
            (None, count) => Some(count),
        };
        if pairs == 0 || pairs > usize::from(MAX_QUEUE_PAIRS) {
            return Err(refuse(
                field("queue_pairs"),
                pairs,
                format!("use 1 to {MAX_QUEUE_PAIRS}"),
            ));
        }
        match given {
            Some(given) if given != pairs => {
                let problem = format!("there are {given} descriptors; give one in `fds` for each pair");
                Err(refuse(field("queue_pairs"), pairs, problem))
            }
            _ => Ok(()),
        }
    }

    /// Where the frames do not pass this process there is less to say about them.
    fn check_vhost(&self, field: &impl Fn(&str) -> String, names: &mut Names) -> Result<(), ConfigError> {
        for (index, fd) in self.vhost_fds.iter().enumerate() {
            names.take_fd(&field(&format!("vhost_fds[{index}]")), *fd)?;
        }
        let elsewhere = self.vhost || self.vhost_user.is_some();
        if elsewhere && self.limits != NetLimits::default() {
            let problem = "frames do not pass this process, so they cannot be limited here; leave it out, or `vhost` and `vhost_user`";
            return Err(refuse(field("limits"), "given", problem));
        }
        if self.vhost_user.is_some() && (self.vhost || self.queue_pairs() != 1) {
            let problem = "a vhost-user interface has one pair of queues and no `vhost`";
            return Err(refuse(field("vhost_user"), "given", problem));
        }
        let (given, needed) = (self.vhost_fds.len(), self.queue_pairs());
        if given > 0 && (!self.vhost || given != needed) {
            let problem = format!("set `vhost` and give one for each of {needed} pairs of queues");
            return Err(refuse(
                field("vhost_fds"),
                format!("{:?}", self.vhost_fds),
                problem,
            ));
        }
        Ok(())
    }

    /// Inherited descriptors of the link.
    pub fn taps(&self) -> impl Iterator<Item = RawFd> {
        self.fd.iter().chain(&self.fds).copied()
    }

    /// Pairs of queues that are asked for.
    #[must_use]
    pub fn queue_pairs(&self) -> usize {
        match self.queue_pairs {
            Some(pairs) => usize::from(pairs),
            None => self.fds.len().max(1),
        }
    }
}

#[cfg(test)]
#[path = "net_tests.rs"]
mod tests;
