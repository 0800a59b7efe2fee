//! Network interfaces.

use std::os::fd::RawFd;

use serde::{Deserialize, Serialize};

use super::error::{ConfigError, refuse};
use super::names::Names;
use crate::mac::MacAddress;

/// A virtio network device over a tap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetConfig {
    /// Name of the device within the VM.
    pub id: String,
    /// Name of an existing tap link to open; either this or `fd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tap: Option<String>,
    /// Number of an inherited, open tap file; either this or `tap`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fd: Option<RawFd>,
    /// Hardware address of the guest's interface.
    pub mac: MacAddress,
    /// MTU announced to the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
}

impl NetConfig {
    /// Checks the interface, which the document has at `field`, beside what `names` says is taken.
    pub fn check(&self, field: &str, names: &mut Names) -> Result<(), ConfigError> {
        let field = |name: &str| format!("{field}.{name}");
        names.take_id(&field("id"), &self.id)?;
        match (&self.tap, self.fd) {
            (Some(tap), None) if tap.is_empty() || tap.len() > 15 || tap.contains(['/', ' ', '\0']) => {
                let problem = "a link's name has 1 to 15 characters without / and spaces";
                return Err(refuse(field("tap"), format!("{tap:?}"), problem));
            }
            (Some(_), None) => {}
            (None, Some(fd)) => names.take_fd(&field("fd"), fd)?,
            _ => return Err(refuse(field("tap"), "not clear", "give either `tap` or `fd`")),
        }
        names.take_mac(&field("mac"), self.mac)?;
        if let Some(mtu) = self.mtu
            && mtu < 68
        {
            return Err(refuse(field("mtu"), mtu, "use 68 to 65535 (virtio 1.3 §5.1.4)"));
        }
        Ok(())
    }
}
