//! `virga console`.

use futures::StreamExt;
use http::Method;
use serde_json::json;

use super::{Context, info, session};
use crate::args;
use crate::client::escape;
use crate::error::{Error, Result};
use crate::output;
use crate::terminal::{self, RawMode};

/// Ctrl-]: the key that leaves telnet, serial and container consoles.
const DETACH_KEY: u8 = 0x1d;

/// Attaches to the console until Ctrl-] is pressed, or prints its log.
pub(super) async fn run(context: &Context, args: args::Console) -> Result<()> {
    let path = format!("/1.0/instances/{}/console", escape(&args.name));
    if args.show_log {
        return output::print(&info::log(context, &path).await?);
    }
    let (width, height) = terminal::size();
    let body = json!({ "width": width, "height": height, "type": "console" });
    let answer = context.client.call(Method::POST, &path, Some(&body)).await?;
    let operation = answer
        .operation
        .ok_or_else(|| Error::protocol(&path, "no operation was started"))?;
    let (sink, source) = session::open(&context.client, &operation, &answer.metadata, "0")
        .await?
        .split();
    let control = session::open(&context.client, &operation, &answer.metadata, "control").await?;
    context.remark("Press Ctrl-] to leave the console.");
    let raw = if terminal::is_interactive() {
        Some(RawMode::enter()?)
    } else {
        None
    };
    let detach = raw.is_some().then_some(DETACH_KEY);
    let control = tokio::spawn(session::control(control, false));
    let mut input = tokio::spawn(session::send_input(tokio::io::stdin(), sink, detach));
    let mut output = tokio::spawn(session::receive_output(source, tokio::io::stdout()));
    tokio::select! {
        _ = &mut output => {}
        // At the end of piped input the console's answer may still be on its way.
        _ = &mut input => if raw.is_none() { let _ = (&mut output).await; },
    }
    control.abort();
    drop(raw);
    context.remark("\nLeft the console.");
    Ok(())
}
