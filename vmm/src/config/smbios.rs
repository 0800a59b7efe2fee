//! What the machine says about itself: SMBIOS strings.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error::{ConfigError, refuse};

/// The longest string; the guest's tools print them on one line each.
const MAX_STRING_BYTES: usize = 1024;
/// The most OEM strings: the count is a byte (SMBIOS 3.7 §7.12).
const MAX_OEM_STRINGS: usize = 255;
/// All strings together; the tables' area is 32 KiB.
const MAX_BYTES: usize = 24 << 10;

/// Strings in the guest's SMBIOS tables, which Linux shows in `/sys/class/dmi/id`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmbiosConfig {
    /// Who made the machine; without it, `Virga`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manufacturer: Option<String>,
    /// What it is called; without it, `microVM`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    /// Version of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Serial number of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Its UUID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<Uuid>,
    /// Stock keeping unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sku: Option<String>,
    /// Family of products.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
    /// Free strings, for programs in the guest (`io.systemd.credential:NAME=VALUE`, for one).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub oem_strings: Vec<String>,
}

impl SmbiosConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let named = [
            ("manufacturer", &self.manufacturer),
            ("product", &self.product),
            ("version", &self.version),
            ("serial", &self.serial),
            ("sku", &self.sku),
            ("family", &self.family),
        ];
        let mut total = 0;
        let named = named
            .into_iter()
            .filter_map(|(name, text)| Some((name.to_owned(), text.as_deref()?)));
        let oem = self.oem_strings.iter().zip(0..);
        let oem = oem.map(|(text, index)| (format!("oem_strings[{index}]"), text.as_str()));
        for (name, text) in named.chain(oem) {
            let printable = text.chars().all(|c| !c.is_control());
            if text.is_empty() || text.len() > MAX_STRING_BYTES || !printable {
                let problem = format!("use 1 to {MAX_STRING_BYTES} bytes without control characters");
                return Err(refuse(format!("smbios.{name}"), format!("{text:?}"), problem));
            }
            total += text.len() + 1;
        }
        if self.oem_strings.len() > MAX_OEM_STRINGS {
            let count = format!("{} strings", self.oem_strings.len());
            return Err(refuse(
                "smbios.oem_strings",
                count,
                format!("at most {MAX_OEM_STRINGS}"),
            ));
        }
        if total > MAX_BYTES {
            let problem = format!("all strings together may have {MAX_BYTES} bytes");
            return Err(refuse("smbios", format!("{total} bytes long"), problem));
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "smbios_tests.rs"]
mod tests;
