//! The command line of `virga-vhost-user`.

use std::ffi::OsString;
use std::path::PathBuf;

/// What `--help` prints.
const HELP: &str = r#"virga-vhost-user serves one disk or network interface to the VM of another process (vhost-user).

Usage: virga-vhost-user --socket PATH --device FILE [--sandbox FILE] [--once]

  --socket PATH       where to listen; "fd:N" is an inherited descriptor that listens
  --device FILE       the device, as JSON: a file, or the document itself, which begins with {
  --sandbox FILE      what the process gives up, as JSON in the same way; {"uid": N} is the user to become, who owns the socket
  --once              end when the first front end has gone
  --version           print the version
  --help              print this

The documents have the fields that a disk or net, and the sandbox, have in virga-vmm's configuration (docs/vmm.md); relative paths
are taken from the current folder. Started by "unshare --pid --fork", the process sees no other processes either.

  virga-vhost-user --socket disk.sock --sandbox '{ "uid": 1000 }' --device '{ "disk": { "id": "root", "path": "/srv/v1.raw" } }'
  virga-vhost-user --socket net.sock --device '{ "net": { "id": "eth0", "tap": "tap0", "mac": "10:66:6a:00:00:01" } }'

A VM of virga-vmm uses them so:

  "memory": { "shared": true }, "disks": [{ "id": "root", "vhost_user": "disk.sock" }],
  "nets": [{ "id": "eth0", "mac": "10:66:6a:00:00:01", "vhost_user": "net.sock" }]

and one of QEMU so:

  -object memory-backend-memfd,id=mem,size=256M,share=on -machine memory-backend=mem
  -chardev socket,id=disk,path=disk.sock -device vhost-user-blk-pci,chardev=disk
  -chardev socket,id=net,path=net.sock -netdev vhost-user,id=n,chardev=net -device virtio-net-pci,netdev=n

It serves one VM at a time until it is ended by a signal. The exit status is 0 after --once, 1 error, 2 wrong command line or
document.
"#;

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// Print something.
    Print(String),
    /// Serve a device.
    Serve(Arguments),
}

/// What to serve, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arguments {
    pub(crate) socket: PathBuf,
    /// A document, or the file that has it.
    pub(crate) device: String,
    /// The same for what is given up, if anything is said about it.
    pub(crate) sandbox: Option<String>,
    pub(crate) once: bool,
}

/// Reads the arguments after the program's name. The error is a message for the user.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, String> {
    let mut arguments = arguments.into_iter();
    let (mut socket, mut device, mut sandbox, mut once) = (None, None, None, false);
    while let Some(argument) = arguments.next() {
        let name = argument.to_string_lossy().into_owned();
        let mut value = || arguments.next().ok_or_else(|| format!("{name} needs a value"));
        match name.as_str() {
            "--help" | "-h" => return Ok(Command::Print(HELP.to_owned())),
            "--version" | "-V" => {
                let version = env!("CARGO_PKG_VERSION");
                return Ok(Command::Print(format!("virga-vhost-user {version}\n")));
            }
            "--socket" => socket = Some(PathBuf::from(value()?)),
            "--device" => device = Some(value()?.to_string_lossy().into_owned()),
            "--sandbox" => sandbox = Some(value()?.to_string_lossy().into_owned()),
            "--once" => once = true,
            _ => return Err(format!("{argument:?} is not an option")),
        }
    }
    Ok(Command::Serve(Arguments {
        socket: socket.ok_or("--socket PATH is missing")?,
        device: device.ok_or("--device FILE is missing")?,
        sandbox,
        once,
    }))
}

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;
