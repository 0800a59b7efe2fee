//! [`ServerInfo`]: what does not change about this host and this program while the daemon runs.

use std::fs;

/// Host and program, read once at start.
#[derive(Debug, Clone)]
pub struct ServerInfo {
    /// The host's name.
    pub name: String,
    /// Kernel release: `6.12.48+deb13-amd64`.
    pub kernel_version: String,
    /// Machine: `x86_64`.
    pub architecture: String,
    /// Operating system: `Debian GNU/Linux`.
    pub os_name: String,
    /// Its version: `12`.
    pub os_version: String,
    /// Whether the root file system of containers can be id-mapped at mount time (Linux 5.12).
    pub idmapped_mounts: bool,
    /// This process.
    pub pid: u32,
}

/// This program's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

impl ServerInfo {
    /// Reads the host.
    pub fn read() -> Self {
        let uname = nix::sys::utsname::uname().ok();
        let text = |field: Option<&std::ffi::OsStr>| field.unwrap_or_default().to_string_lossy().into_owned();
        let kernel_version = text(uname.as_ref().map(nix::sys::utsname::UtsName::release));
        let os_release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        Self {
            name: text(uname.as_ref().map(nix::sys::utsname::UtsName::nodename)),
            architecture: text(uname.as_ref().map(nix::sys::utsname::UtsName::machine)),
            os_name: os_release_value(&os_release, "NAME"),
            os_version: os_release_value(&os_release, "VERSION_ID"),
            idmapped_mounts: kernel_at_least(&kernel_version, 5, 12),
            kernel_version,
            pid: std::process::id(),
        }
    }
}

/// A value of `/etc/os-release` (os-release(5)), without its quotes.
fn os_release_value(text: &str, key: &str) -> String {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .find(|(name, _)| *name == key)
        .map(|(_, value)| value.trim_matches(['"', '\'']).to_owned())
        .unwrap_or_default()
}

fn kernel_at_least(release: &str, major: u32, minor: u32) -> bool {
    let mut numbers = release
        .split(['.', '-', '+'])
        .map_while(|part| part.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
}

#[cfg(test)]
mod tests {
    use super::{kernel_at_least, os_release_value};

    #[test]
    fn os_release_is_read_with_and_without_quotes() {
        let text = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID='12'\nID=debian\n";
        assert_eq!(os_release_value(text, "NAME"), "Debian GNU/Linux");
        assert_eq!(os_release_value(text, "VERSION_ID"), "12");
        assert_eq!(os_release_value(text, "ID"), "debian");
        assert_eq!(os_release_value(text, "MISSING"), "");
    }

    #[test]
    fn kernel_releases_are_compared_by_number() {
        assert!(kernel_at_least("6.12.48+deb13-amd64", 5, 12));
        assert!(kernel_at_least("5.12", 5, 12));
        assert!(!kernel_at_least("5.9.1", 5, 12));
        assert!(!kernel_at_least("", 5, 12));
    }
}
