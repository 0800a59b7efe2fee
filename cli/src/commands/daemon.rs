//! `virga daemon`: is it there, run it, end it.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use http::Method;
use serde_json::json;

use super::Context;
use crate::args;
use crate::error::{Error, Result};
use crate::output::{self, Format, text};

/// Does one verb and gives the exit status.
pub(super) async fn run(context: &Context, verb: args::Daemon) -> Result<u8> {
    match verb {
        args::Daemon::Status => status(context).await.map(|()| 0),
        args::Daemon::Run { args } => Err(run_daemon(&args)),
        args::Daemon::Stop => stop(context).await.map(|()| 0),
    }
}

async fn status(context: &Context) -> Result<()> {
    let server = context.client.get_value("/1.0").await?;
    let environment = &server["environment"];
    let summary = json!({
        "socket": context.client.socket(),
        "server": environment["server"],
        "version": environment["server_version"],
        "pid": environment["server_pid"],
        "api": server["api_version"],
        "drivers": environment["driver"],
        "storage": environment["storage"],
        "kernel": environment["kernel_version"],
    });
    match context.format {
        Format::Table | Format::Csv => output::print(&format!(
            "{} {} is running (pid {}) on {}\n",
            text(&summary["server"]),
            text(&summary["version"]),
            text(&summary["pid"]),
            context.client.socket().display()
        )),
        format => output::document(format, &summary),
    }
}

/// Becomes `virgad`; comes back only when that fails.
fn run_daemon(args: &[String]) -> Error {
    let sibling = std::env::current_exe()
        .ok()
        .map(|own| own.with_file_name("virgad"))
        .filter(|path| path.exists());
    let program = sibling.unwrap_or_else(|| "virgad".into());
    let err = Command::new(&program).args(args).exec();
    Error::io(format!("run {}", program.display()), err)
}

async fn stop(context: &Context) -> Result<()> {
    let server = context.client.get_value("/1.0").await?;
    let pid = server["environment"]["server_pid"].as_i64().unwrap_or(0);
    context
        .client
        .call(Method::PUT, "/internal/shutdown", None)
        .await?;
    // It is gone when its socket no longer answers.
    while context.client.get("/1.0").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    context.remark(format!("The daemon (pid {pid}) has ended; instances run on"));
    Ok(())
}
