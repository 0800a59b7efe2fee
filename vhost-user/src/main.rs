//! `virga-vhost-user`: serves one disk or network interface to the VM of another process, by the vhost-user protocol. See
//! `virga-vhost-user --help`.
//!
//! The device is the same as in `virga-vmm`, described by the same document and confined in the same way; only its transport
//! is another one, so that any VMM may use it.

mod args;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use args::{Arguments, Command};
use devices::virtio::device::VirtioDevice;
use devices::virtio::transport::vhost_user::{rest, serve};
use devices::virtio::worker::ThreadHook;
use serde::de::DeserializeOwned;
use vmm::attach;
use vmm::config::{NewDevice, SandboxConfig, VmConfig};
use vmm::faults;
use vmm::footprint;
use vmm::host_file;
use vmm::launch::chain;
use vmm::log::{self, StderrLog, print};
use vmm::sandbox::Sandbox;
use vmm::sandbox::seccomp::{Filters, ThreadKind};

/// How long a disk may take for what it was asked for by a front end that has gone, until that is said.
const PATIENCE: Duration = Duration::from_secs(5);
/// Wrong command line or device.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    log::speak_for("virga-vhost-user");
    let arguments = match args::parse(std::env::args_os().skip(1)) {
        Ok(Command::Serve(arguments)) => arguments,
        Ok(Command::Print(text)) => return print(&text),
        Err(problem) => return usage(&format!("{problem}; see virga-vhost-user --help")),
    };
    let config = match read_config(&arguments) {
        Ok(config) => config,
        Err(problem) => return usage(&problem),
    };
    let mut kept = config.descriptors();
    kept.extend(host_file::number(&arguments.socket));
    // SAFETY: nothing has been opened yet but what was inherited.
    unsafe { host_file::keep(&kept) };
    // Besides the size: a heap of a thread's own asks for a file when it shrinks, which no filter allows.
    footprint::share_one_heap();
    StderrLog::new(config.log, &config.name).install();
    match run(&arguments, &config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            log::say(&problem);
            ExitCode::FAILURE
        }
    }
}

fn usage(problem: &str) -> ExitCode {
    log::say(problem);
    ExitCode::from(USAGE)
}

/// Reads a document that is given, or a file that has it.
fn read<T: DeserializeOwned>(what: &str, document: &str) -> Result<T, String> {
    let text = match document.starts_with('{') {
        true => document.to_owned(),
        false => fs::read_to_string(document)
            .map_err(|error| format!("cannot read the {what} {document:?}: {error}"))?,
    };
    serde_json::from_str(&text).map_err(|error| format!("the {what} is not valid: {error}"))
}

/// The device as the only one of a VM, in which the same rules hold for it.
fn read_config(arguments: &Arguments) -> Result<VmConfig, String> {
    let device: NewDevice = read("device", &arguments.device)?;
    match &device {
        NewDevice::Disk(disk) if disk.vhost_user.is_none() => {}
        NewDevice::Net(net) if net.queue_pairs() > 1 => {
            return Err(
                "a network interface is served with one pair of queues: leave `queue_pairs` out".to_owned(),
            );
        }
        NewDevice::Net(net) if net.vhost_user.is_none() && !net.vhost => {}
        NewDevice::Disk(_) | NewDevice::Net(_) => {
            return Err("the device is served here: leave `vhost_user` and `vhost` out".to_owned());
        }
        NewDevice::Vsock(_) => return Err("only disks and networks can be served".to_owned()),
    }
    let folder =
        std::env::current_dir().map_err(|error| format!("cannot find the current folder: {error}"))?;
    let mut config = VmConfig::of_device(&folder, &device).map_err(|error| chain(&error))?;
    if let Some(sandbox) = &arguments.sandbox {
        config.sandbox = read("sandbox", sandbox)?;
        config.check().map_err(|error| chain(&error))?;
    }
    Ok(config)
}

fn run(arguments: &Arguments, config: &VmConfig) -> Result<(), String> {
    let sandbox = Sandbox::prepare(&config.sandbox).map_err(|error| chain(&error))?;
    let made = config.removable_devices().into_iter().next();
    let made = made.ok_or("there is no device")?;
    let made = attach::make(config, &made).map_err(|error| chain(&error))?;
    let listener = listen(&arguments.socket, &config.sandbox).map_err(|error| {
        let socket = arguments.socket.display();
        format!("cannot listen on {socket}: {error}")
    })?;
    let filters = match config.sandbox.seccomp {
        true => Filters::On,
        false => Filters::Off,
    };
    host_file::seal();
    sandbox.enter(None, None).map_err(|error| chain(&error))?;
    let confined = faults::install_handlers().and_then(|()| filters.install(ThreadKind::BackEnd));
    confined.map_err(|error| format!("cannot install the system call filter: {error}"))?;
    let hook: ThreadHook = Arc::new(move |name: &str| filters.install(ThreadKind::DeviceWorker(name)));
    serve_all(&listener, made.into_device(), &hook, arguments.once)
}

/// Listens where the user that this process becomes, and others of its group, may connect.
fn listen(socket: &Path, sandbox: &SandboxConfig) -> std::io::Result<UnixListener> {
    let listener = host_file::listen(socket)?;
    // Here it may: there is nothing else to do.
    listener.set_nonblocking(false)?;
    if !host_file::is_descriptor(socket) {
        if let Some(uid) = sandbox.uid {
            chown(socket, Some(uid), Some(sandbox.gid.unwrap_or(uid)))?;
        }
        fs::set_permissions(socket, fs::Permissions::from_mode(0o660))?;
    }
    Ok(listener)
}

/// Serves one front end after the other.
fn serve_all(
    listener: &UnixListener,
    mut device: Box<dyn VirtioDevice>,
    hook: &ThreadHook,
    once: bool,
) -> Result<(), String> {
    loop {
        let (front_end, _) = listener
            .accept()
            .map_err(|error| format!("cannot take a front end: {error}"))?;
        let (back, result) = serve(device, front_end, hook.clone());
        if let Err(error) = result {
            tracing::warn!(%error, "the front end was disconnected");
        }
        device = back.ok_or("the device is gone with its front end")?;
        while !rest(&mut *device, PATIENCE) {
            let problem = format!(
                "what stands behind the device has not finished in {PATIENCE:?} what the front end that has gone had asked for"
            );
            if once {
                return Err(problem);
            }
            tracing::warn!("{problem}; the next one is served after that");
        }
        if once {
            return Ok(());
        }
    }
}
