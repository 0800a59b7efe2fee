//! `virga-agent`: the program inside an instance.
//!
//! As process 1 it boots a microVM. Otherwise it serves the host as a service of a full guest (`--service`), or a
//! unix socket, a device or its own standard streams.

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use guest_agent::listen;
use guest_agent::protocol::VSOCK_PORT;

const USAGE: &str = "\
virga-agent: serves commands, files and state of this instance to its host

  virga-agent --service [PORT]     serve a vsock port (1024)
  virga-agent --listen-unix PATH   serve a unix socket, made anew
  virga-agent --listen-device PATH serve a character device: a virtio console port, a serial line
  virga-agent --stdio              serve one connection on the standard streams (a socket)
  virga-agent --stdio --root DIR   the same, with DIR as its root: no path leads out of it
  virga-agent --version

As first process of a microVM it reads /virga/config.json.";

fn main() -> ExitCode {
    // The kernel hands words of its command line that it does not know to the first process; none begins with
    // two dashes, so `--version` works as first process of a container.
    if std::process::id() == 1
        && !std::env::args()
            .nth(1)
            .is_some_and(|first| first.starts_with("--"))
    {
        guest_agent::microvm::run();
    }
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("virga-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["--service"] => vsock(VSOCK_PORT),
        ["--service", port] => vsock(
            port.parse()
                .with_context(|| format!("{port:?} is no port number"))?,
        ),
        ["--listen-unix", path] => listen::unix(Path::new(path))
            .map(|_| ())
            .with_context(|| format!("cannot serve {path}")),
        ["--listen-device", path] => listen::device(Path::new(path))
            .map(|_| ())
            .with_context(|| format!("cannot serve {path}")),
        ["--stdio"] if !std::io::stdin().is_terminal() => standard_streams(),
        ["--stdio", "--root", root] if !std::io::stdin().is_terminal() => {
            enter(Path::new(root)).with_context(|| format!("cannot make {root} the root"))?;
            standard_streams()
        }
        ["--version"] => {
            println!("virga-agent {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        ["--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => bail!("wrong arguments {arguments:?}\n{USAGE}"),
    }
}

fn standard_streams() -> anyhow::Result<()> {
    listen::standard_input().context("cannot serve the standard streams")
}

/// Done here and not by whoever starts the agent: a directory need not hold what a program that is linked to libraries needs
/// to start.
fn enter(root: &Path) -> std::io::Result<()> {
    std::os::unix::fs::chroot(root)?;
    std::env::set_current_dir("/")
}

fn vsock(port: u32) -> anyhow::Result<()> {
    listen::vsock(port)
        .map(|_| ())
        .with_context(|| format!("cannot serve vsock port {port}"))
}
