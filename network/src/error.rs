//! What can go wrong with a network, one variant for each thing that a caller can act on.

use std::io;
use std::path::PathBuf;

use thiserror::Error as ThisError;

/// An error of the network room. The message names the object and the value.
#[derive(Debug, ThisError)]
pub enum Error {
    /// The name of a network, link or host is not acceptable.
    #[error("invalid name {name:?}: {reason}")]
    InvalidName {
        /// The name as given.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A configuration key that bridges do not have (the wording is Incus').
    #[error("Invalid option for network {network:?} option {key:?}")]
    UnknownKey {
        /// The network.
        network: String,
        /// The key.
        key: String,
    },
    /// A configuration key with a value that it cannot have (the wording is Incus').
    #[error("Invalid value for network {network:?} option {key:?}: {reason}")]
    InvalidValue {
        /// The network.
        network: String,
        /// The key.
        key: String,
        /// What is wrong with the value, which it quotes.
        reason: String,
    },
    /// A link of this name exists and was not made by this daemon.
    #[error(
        "a link named {name:?} exists already and does not belong to this daemon (its alias is {alias:?})"
    )]
    NameTaken {
        /// The name of the link.
        name: String,
        /// The alias it carries.
        alias: String,
    },
    /// The address or subnet is in use elsewhere.
    #[error("address {address} is in use by {user}")]
    AddressInUse {
        /// The address or subnet asked for.
        address: String,
        /// Who has it.
        user: String,
    },
    /// The address is not one that this network can give to an instance.
    #[error("address {address} cannot be used on network {network:?}: {reason}")]
    AddressRefused {
        /// The address.
        address: String,
        /// The network.
        network: String,
        /// Why not.
        reason: &'static str,
    },
    /// Nothing free was found.
    #[error("no free {what} was found for network {network:?}")]
    Exhausted {
        /// The network.
        network: String,
        /// What was looked for.
        what: &'static str,
    },
    /// The network or link does not exist.
    #[error("network link {name:?} not found")]
    NotFound {
        /// Its name.
        name: String,
    },
    /// The process whose network namespace was wanted is gone.
    #[error("the network namespace of process {pid} cannot be opened")]
    NoNamespace {
        /// The process.
        pid: u32,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The kernel refused a request about links, addresses or routes.
    #[error("cannot {what}")]
    Netlink {
        /// What was asked for, with names and values.
        what: String,
        /// The kernel's answer.
        #[source]
        source: rtnetlink::Error,
    },
    /// A file or device could not be used.
    #[error("cannot {what} {path}", path = .path.display())]
    Io {
        /// What was attempted.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A system call on something without a path failed.
    #[error("cannot {what}")]
    System {
        /// What was attempted, with names and values.
        what: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A program that the network needs is not there or failed.
    #[error("{program} failed for network {network:?}: {message}")]
    Program {
        /// `nft` or `dnsmasq`.
        program: &'static str,
        /// The network.
        network: String,
        /// What it said.
        message: String,
    },
}

impl Error {
    /// Whether what the user asked for is at fault, rather than the host.
    pub fn is_invalid_request(&self) -> bool {
        matches!(
            self,
            Self::InvalidName { .. }
                | Self::UnknownKey { .. }
                | Self::InvalidValue { .. }
                | Self::AddressInUse { .. }
                | Self::AddressRefused { .. }
                | Self::NameTaken { .. }
        )
    }

    pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }

    pub(crate) fn netlink(what: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> Self {
        let what = what.into();
        move |source| Self::Netlink { what, source }
    }

    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }
}
