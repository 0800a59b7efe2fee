//! Hooks of a bundle (config.md, "POSIX-platform Hooks"): programs on the host that are told the container's state on standard input.
//!
//! `prestart` and `createRuntime` run when the container is complete but for its exec. Those that would have to run inside of it
//! are refused at creation.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use oci_spec::runtime::{Hook, Spec};

use super::unsupported;
use crate::{Error, Result};

/// Points in a container's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Create,
    Poststart,
    Poststop,
}

/// Runs the hooks of a stage in order. A failing one ends the creation, and is only reported later in life.
pub(super) fn run(spec: &Spec, stage: Stage, state: &serde_json::Value) -> Result<()> {
    let Some(hooks) = spec.hooks() else { return Ok(()) };
    let list = |hooks: &Option<Vec<Hook>>| hooks.clone().unwrap_or_default();
    let chosen = match stage {
        Stage::Create => {
            if !list(hooks.create_container()).is_empty() || !list(hooks.start_container()).is_empty() {
                return Err(unsupported("hooks", "createContainer and startContainer"));
            }
            #[allow(deprecated)]
            let mut chosen = list(hooks.prestart());
            chosen.extend(list(hooks.create_runtime()));
            chosen
        }
        Stage::Poststart => list(hooks.poststart()),
        Stage::Poststop => list(hooks.poststop()),
    };
    for hook in chosen {
        let outcome = execute(&hook, state);
        match outcome {
            Err(error) if stage == Stage::Create => return Err(error),
            Err(error) => eprintln!("virga-run: {}", error.chain()),
            Ok(()) => {}
        }
    }
    Ok(())
}

fn execute(hook: &Hook, state: &serde_json::Value) -> Result<()> {
    let path = hook.path();
    let failed = |e| Error::file("run the hook", path, e);
    let mut command = Command::new(path);
    if let Some((name, arguments)) = hook.args().as_ref().and_then(|args| args.split_first()) {
        command.arg0(name).args(arguments);
    }
    let variables = hook.env().clone().unwrap_or_default();
    let mut child = command
        .env_clear()
        .envs(variables.iter().filter_map(|variable| variable.split_once('=')))
        .stdin(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut input) = child.stdin.take() {
        // A hook that does not read is fine.
        drop(input.write_all(state.to_string().as_bytes()));
    }
    let deadline = hook
        .timeout()
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let status = loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            break status;
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            drop(child.kill());
            drop(child.wait());
            return Err(failed(std::io::Error::from_raw_os_error(libc::ETIMEDOUT)));
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    if status.success() {
        Ok(())
    } else {
        Err(failed(std::io::Error::other(status.to_string())))
    }
}
