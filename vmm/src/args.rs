//! The command line of `virga-vmm`. It is short enough to be read by hand, which keeps the process small and its
//! start fast.

use std::ffi::OsString;
use std::path::PathBuf;

/// What `--help` prints.
pub const HELP: &str = r#"virga-vmm runs one virtual machine in one process.

Usage: virga-vmm --config FILE [--validate] [--start-time-us N]

  --config FILE       the VM, as JSON (below)
  --validate          check the configuration and say what is wrong, without running anything
  --start-time-us N   CLOCK_MONOTONIC in microseconds when this process was started, for GET /metrics
  --probe             say what kind of KVM this host has, as JSON, and exit
  --version           print the version
  --help              print this

A VM with a disk, in a file v1.json (relative paths are taken from run_dir; "fd:N" is an inherited descriptor):

  { "name": "v1", "vcpus": 2, "memory_bytes": 134217728, "transport": "pci",
    "kernel": { "path": "/boot/vmlinux", "cmdline": "console=ttyS0 root=/dev/vda",
                "initrd": ["/boot/initrd.img"], "protocol": "linux64" },
    "serial": { "log": "console.log", "socket": "console.sock" },
    "disks": [{ "id": "root", "path": "/srv/v1.raw", "format": "raw", "read_only": false, "direct": false, "queues": 1,
                "limits": { "bytes_per_second": 104857600, "operations_per_second": 1000 } }],
    "nets": [{ "id": "eth0", "tap": "tap0", "mac": "10:66:6a:00:00:01", "mtu": 1500, "queue_pairs": 2 }],
    "vsock": { "cid": 3, "socket": "vsock.sock" }, "rng": true,
    "console": true, "console_ports": [{ "name": "agent", "socket": "agent.sock", "terminal": false }],
    "run_dir": "/run/v1", "control_socket": "control.sock", "autostart": true,
    "gdb": { "socket": "gdb.sock", "wait": false }, "log": { "format": "text", "level": "info" },
    "sandbox": { "uid": 1000, "gid": 1000, "namespaces": true, "landlock": true, "seccomp": true } }

  virga-vmm --config v1.json --validate
  virga-vmm --config v1.json &
  curl --unix-socket /run/v1/control.sock http://vm/state
  curl --unix-socket /run/v1/control.sock -X PUT http://vm/pause       also start, resume, power-button,
                                                                       sleep-button, generation-id, stop
  curl --unix-socket /run/v1/control.sock http://vm/metrics            also devices, config; http://vm/ lists all
  curl --unix-socket /run/v1/control.sock -X DELETE http://vm/devices/eth0
  socat - UNIX-CONNECT:/run/v1/console.sock                            the serial console

When the VM ends, run_dir has exit.json with the reason, and the exit status is
0 powered off, 3 reset, 4 guest gave up (triple fault), 5 stopped, 1 error, 2 wrong command line or configuration.
"#;

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Print [`HELP`].
    Help,
    /// Print the version.
    Version,
    /// Look at the host's KVM.
    Probe,
    /// Check a configuration.
    Validate(PathBuf),
    /// Run a VM.
    Run {
        /// The configuration.
        config: PathBuf,
        /// When the process was started.
        started_us: Option<u64>,
    },
}

/// Reads the arguments after the program's name. The error is a message for the user.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, String> {
    let mut arguments = arguments.into_iter();
    let (mut config, mut validate, mut started_us) = (None, false, None);
    while let Some(argument) = arguments.next() {
        let text = argument.to_string_lossy().into_owned();
        let (name, inline) = match text.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(OsString::from(value))),
            None => (text, None),
        };
        let mut value = || {
            inline
                .clone()
                .or_else(|| arguments.next())
                .ok_or_else(|| format!("{name} needs a value"))
        };
        match name.as_str() {
            "--help" | "-h" => return Ok(Command::Help),
            "--version" | "-V" => return Ok(Command::Version),
            "--probe" => return Ok(Command::Probe),
            "--validate" => validate = true,
            "--config" => config = Some(PathBuf::from(value()?)),
            "--start-time-us" => {
                let value = value()?;
                let number = value.to_str().and_then(|text| text.parse().ok());
                started_us =
                    Some(number.ok_or_else(|| format!("--start-time-us {value:?} is not a number"))?);
            }
            _ => return Err(format!("{argument:?} is not an option")),
        }
    }
    match (config, validate) {
        (Some(config), true) => Ok(Command::Validate(config)),
        (Some(config), false) => Ok(Command::Run { config, started_us }),
        (None, _) => Err("--config FILE is missing".to_owned()),
    }
}

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;
