//! `virga monitor`: events as they happen.

use futures::{SinkExt, StreamExt};
use serde_json::Value;
use tokio_tungstenite::tungstenite::Message;

use super::Context;
use crate::args;
use crate::client::escape;
use crate::error::{Error, Result};
use crate::output::{self, Format, text};

/// Prints events until interrupted or the daemon ends.
pub(super) async fn run(context: &Context, args: args::Monitor) -> Result<()> {
    let mut query = Vec::new();
    if !args.types.is_empty() {
        query.push(format!("type={}", escape(&args.types.join(","))));
    }
    if args.all_projects {
        query.push("all-projects=true".to_owned());
    }
    let path = format!(
        "/1.0/events{}{}",
        if query.is_empty() { "" } else { "?" },
        query.join("&")
    );
    let mut socket = context.client.websocket(&path).await?;
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {
                let _ = socket.close(None).await;
                return Ok(());
            }
            message = socket.next() => match message {
                Some(Ok(Message::Text(event))) => show(context, &event)?,
                Some(Ok(Message::Ping(data))) => { let _ = socket.send(Message::Pong(data)).await; }
                Some(Ok(Message::Close(_))) | None => return Ok(()),
                Some(Ok(_)) => {}
                Some(Err(err)) => return Err(Error::protocol("the event stream", err)),
            }
        }
    }
}

fn show(context: &Context, event: &str) -> Result<()> {
    let event: Value = serde_json::from_str(event).map_err(|err| Error::protocol("an event", err))?;
    match context.format {
        // One document a line, so that a pipe can take them one by one.
        Format::Json => output::print(&format!("{event}\n")),
        Format::Yaml => output::print(&format!("---\n{}", output::yaml(&event)?)),
        Format::Table | Format::Csv => output::print(&format!("{}\n", line(&event))),
    }
}

fn line(event: &Value) -> String {
    let time: String = text(&event["timestamp"]).chars().take(23).collect();
    let metadata = &event["metadata"];
    let what = match event["type"].as_str() {
        Some("lifecycle") => format!("{} {}", text(&metadata["action"]), text(&metadata["source"])),
        Some("operation") => format!(
            "{} {} {} {}",
            text(&metadata["description"]),
            text(&metadata["status"]),
            text(&metadata["id"]),
            text(&metadata["err"])
        ),
        Some("logging") => format!("{} {}", text(&metadata["level"]), text(&metadata["message"])),
        _ => metadata.to_string(),
    };
    format!("{time} {:<9} {}", text(&event["type"]), what.trim_end())
}
