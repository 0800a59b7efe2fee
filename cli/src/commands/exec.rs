//! `virga exec`: a command in an instance, with a terminal or with pipes.

use futures::StreamExt;
use http::Method;
use serde_json::{Value, json};

use super::{Context, key_values, session};
use crate::args;
use crate::client::escape;
use crate::error::{Error, Result};
use crate::terminal::{self, RawMode};

/// Runs the command and gives its exit status.
pub(super) async fn run(context: &Context, args: args::Exec) -> Result<u8> {
    let interactive = args.terminal || (!args.no_terminal && !args.no_stdin && terminal::is_interactive());
    let mut environment = key_values::object(&args.env)?;
    if interactive && !environment.contains_key("TERM") {
        let term = std::env::var("TERM").unwrap_or_else(|_| "xterm".to_owned());
        environment.insert("TERM".into(), term.into());
    }
    let (width, height) = if interactive { terminal::size() } else { (0, 0) };
    let body = json!({
        "command": args.command,
        "environment": environment,
        "wait-for-websocket": true,
        "interactive": interactive,
        "width": width,
        "height": height,
        "record-output": false,
        "user": args.user,
        "group": args.group,
        "cwd": args.cwd,
    });
    let client = &context.client;
    let path = format!("/1.0/instances/{}/exec", escape(&args.name));
    let answer = client.call(Method::POST, &path, Some(&body)).await?;
    let operation = answer
        .operation
        .ok_or_else(|| Error::protocol(&path, "no operation was started"))?;
    let document = answer.metadata;

    let (sink, source) = session::open(client, &operation, &document, "0").await?.split();
    let control = session::open(client, &operation, &document, "control").await?;
    let raw = if interactive && terminal::is_interactive() {
        Some(RawMode::enter()?)
    } else {
        None
    };
    let control = tokio::spawn(session::control(control, !interactive));
    let input = if args.no_stdin {
        tokio::spawn(session::send_input(tokio::io::empty(), sink, None))
    } else {
        tokio::spawn(session::send_input(tokio::io::stdin(), sink, None))
    };
    let mut outputs = Vec::new();
    if interactive {
        outputs.push(tokio::spawn(session::receive_output(source, tokio::io::stdout())));
    } else {
        let (_, stdout) = session::open(client, &operation, &document, "1").await?.split();
        let (_, stderr) = session::open(client, &operation, &document, "2").await?.split();
        outputs.push(tokio::spawn(session::receive_output(stdout, tokio::io::stdout())));
        outputs.push(tokio::spawn(session::receive_output(stderr, tokio::io::stderr())));
        // The read half answers the daemon's pings while the command runs.
        tokio::spawn(session::receive_output(source, tokio::io::sink()));
    }
    for output in outputs {
        // A writer that failed has ended its stream; the command's status still counts.
        let _ = output.await;
    }
    let finished = client.get_value(&format!("{operation}/wait")).await;
    input.abort();
    control.abort();
    drop(raw);
    exit_status(&finished?)
}

fn exit_status(operation: &Value) -> Result<u8> {
    match operation["metadata"]["return"].as_i64() {
        Some(status) => Ok(u8::try_from(status & 0xff).unwrap_or(1)),
        None => {
            let message = operation["err"].as_str().filter(|err| !err.is_empty());
            let message = message
                .unwrap_or("the command ended without an exit status")
                .to_owned();
            Err(Error::Api { status: 500, message })
        }
    }
}
