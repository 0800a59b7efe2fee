//! What each verb does. One file a noun; this one only finds it.

mod bench;
mod config;
mod console;
mod create;
mod daemon;
mod doctor;
mod exec;
mod file;
mod file_transfer;
mod image;
mod info;
mod key_values;
mod lifecycle;
mod list;
mod monitor;
mod network;
mod operation;
mod profile;
mod query;
mod session;
mod snapshot;
mod storage;

use clap::CommandFactory;
use serde_json::Value;

use crate::args::{Cli, Command};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::output::Format;

/// What every command is given.
pub(crate) struct Context {
    client: Client,
    format: Format,
    quiet: bool,
}

impl Context {
    /// A remark for a person: on standard error, so that results can be piped.
    fn remark(&self, text: impl AsRef<str>) {
        if !self.quiet {
            eprintln!("{}", text.as_ref());
        }
    }
}

/// Does what was asked and gives the exit status.
pub(crate) async fn run(cli: Cli) -> Result<u8> {
    let client = Client::new(cli.socket(), cli.project.clone(), cli.quiet);
    let context = Context {
        client,
        format: cli.format,
        quiet: cli.quiet,
    };
    let done = |result: Result<()>| result.map(|()| 0);
    match cli.command {
        Command::Launch(args) => done(create::run(&context, args, true).await),
        Command::Create(args) => done(create::run(&context, args, false).await),
        Command::List(args) => done(list::run(&context, args).await),
        Command::Info(args) => done(info::run(&context, args).await),
        Command::Start(args) => done(lifecycle::change(&context, "start", &args.names, false, -1).await),
        Command::Stop(args) => {
            done(lifecycle::change(&context, "stop", &args.names, args.force, args.timeout).await)
        }
        Command::Restart(args) => {
            done(lifecycle::change(&context, "restart", &args.names, args.force, args.timeout).await)
        }
        Command::Freeze(args) => done(lifecycle::change(&context, "freeze", &args.names, false, -1).await),
        Command::Unfreeze(args) => {
            done(lifecycle::change(&context, "unfreeze", &args.names, false, -1).await)
        }
        Command::Exec(args) => exec::run(&context, args).await,
        Command::Console(args) => done(console::run(&context, args).await),
        Command::Delete(args) => done(lifecycle::delete(&context, &args.names, args.force).await),
        Command::Rename(args) => done(lifecycle::rename(&context, &args.name, &args.new_name).await),
        Command::Copy(args) => done(create::copy(&context, args).await),
        Command::Config(verb) => done(config::run(&context, verb).await),
        Command::Image(verb) => done(image::run(&context, verb).await),
        Command::File(verb) => done(file::run(&context, verb).await),
        Command::Snapshot(verb) => done(snapshot::run(&context, verb).await),
        Command::Profile(verb) => done(profile::run(&context, verb).await),
        Command::Network(verb) => done(network::run(&context, verb).await),
        Command::Storage(verb) => done(storage::run(&context, verb).await),
        Command::Operation(verb) => done(operation::run(&context, verb).await),
        Command::Monitor(args) => done(monitor::run(&context, args).await),
        Command::Query(args) => done(query::run(&context, args).await),
        Command::Doctor => doctor::run(&context),
        Command::Bench(args) => bench::run(&context, args),
        Command::Daemon(verb) => daemon::run(&context, verb).await,
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "virga", &mut std::io::stdout());
            Ok(0)
        }
    }
}

/// The documents of a list answer; `null` is an empty list.
fn documents(value: Value) -> Result<Vec<Value>> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(list) => Ok(list),
        other => Err(Error::protocol(
            "a list",
            format!("a list was expected, not {other}"),
        )),
    }
}

/// Does `step` for each name, says what failed, and goes on with the rest.
async fn for_each<F>(names: &[String], step: F) -> Result<()>
where
    F: AsyncFn(&str) -> Result<()>,
{
    if let [name] = names {
        return step(name).await;
    }
    let mut failed = 0;
    for name in names {
        if let Err(err) = step(name).await {
            eprintln!("{} {name}: {err}", crate::output::style::error_label());
            failed += 1;
        }
    }
    if failed > 0 {
        Err(Error::Some {
            failed,
            total: names.len(),
        })
    } else {
        Ok(())
    }
}
