//! The agent as first process of a microVM.
//!
//! The kernel starts it from the initrd as `/init`. It mounts the kernel's file systems and the root disk, moves
//! over to it, gives the machine its name and its network, and forks: the child serves the host, the parent either
//! becomes the image's own init or stays, reaps orphans and minds the command. The agent's program stays mapped
//! from the initrd's memory, so it needs nothing of the image and cannot be broken by it.
//!
//! Whatever fails is said on the console. What the machine cannot live without powers it off: a machine that
//! hangs tells nobody.

mod button;
mod identity;
mod init;
mod mounts;
mod network;
mod power;
mod root;
mod superblock;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;

use crate::config::{CONFIG_PATH, GuestConfig, InitMode, Listen};
use crate::protocol::ShutdownAction;

/// What could not be done at boot.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action}: {source}")]
struct BootError {
    action: String,
    source: io::Error,
}

impl BootError {
    /// For `map_err`.
    fn because<E: Into<io::Error>>(action: impl Display) -> impl FnOnce(E) -> Self {
        move |source| Self {
            action: action.to_string(),
            source: source.into(),
        }
    }
}

/// Boots the machine. Called as process 1 only.
pub fn run() -> ! {
    std::panic::set_hook(Box::new(|panic| {
        say(format_args!("{panic}"));
        if std::process::id() == 1 {
            power::end(ShutdownAction::Poweroff);
        }
    }));
    let error = match boot() {
        Ok(never) => match never {},
        Err(error) => error,
    };
    say(format_args!("{error}; powering off"));
    power::end(ShutdownAction::Poweroff)
}

/// A line on the console, or, where that does not work, in the kernel's log. Never fails: it is called when all
/// else has.
fn say(message: impl Display) {
    let line = format!("virga-agent: {message}\n");
    let Err(error) = std::io::stderr().write_all(line.as_bytes()) else {
        return;
    };
    if let Ok(mut log) = std::fs::OpenOptions::new().write(true).open("/dev/kmsg") {
        let _ = log.write_all(format!("{} (on the console: {error})\n", line.trim_end()).as_bytes());
    }
}

/// Says what failed and goes on without it.
fn tolerate<E: Display>(result: Result<(), E>) {
    if let Err(error) = result {
        say(error);
    }
}

fn boot() -> Result<Infallible, BootError> {
    mounts::kernel_file_systems()?;
    let config = read_config()?;
    root::mount(&config.root)?;
    root::switch()?;
    tolerate(mounts::of_the_new_root());
    if !config.hostname.is_empty() {
        tolerate(identity::set_hostname(Path::new("/"), &config.hostname));
    }
    tolerate(identity::write_resolv_conf(Path::new("/"), &config.nics));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(BootError::because("start a runtime for the network"))?;
    runtime.block_on(network::configure(&config.nics));
    drop(runtime);

    let environment = environment(&config.environment);
    match config.init {
        InitMode::Image => match init::find() {
            Some(program) => {
                init::fork_server(&config.listen)?;
                init::become_image_init(&program, &environment)
            }
            None => {
                say("the image has no init system: staying the first process");
                stay(&config.listen, &[], &environment)
            }
        },
        InitMode::None => stay(&config.listen, &[], &environment),
        InitMode::Command(command) => stay(&config.listen, &command, &environment),
    }
}

fn stay(
    listen: &Listen,
    command: &[String],
    environment: &BTreeMap<String, String>,
) -> Result<Infallible, BootError> {
    mounts::temporary();
    init::stay(listen, command, environment)
}

fn read_config() -> Result<GuestConfig, BootError> {
    let read = || -> io::Result<GuestConfig> { Ok(serde_json::from_slice(&std::fs::read(CONFIG_PATH)?)?) };
    let config = read().map_err(BootError::because(format_args!(
        "read {CONFIG_PATH} in the initrd"
    )))?;
    // It may hold secrets, and the initrd's memory is never looked at again.
    let _ = std::fs::remove_file(CONFIG_PATH);
    Ok(config)
}

/// What the image's init or the command starts with.
fn environment(wanted: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let defaults = [
        (
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        ),
        ("HOME", "/root"),
        ("TERM", "linux"),
    ];
    let mut environment: BTreeMap<String, String> = defaults
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    environment.extend(wanted.clone());
    environment
}
