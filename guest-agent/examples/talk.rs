//! Talks to an agent on a unix socket, for trying one by hand:
//!
//! `cargo run --example talk -- SOCKET hello | state | poweroff | exec COMMAND...`

use std::io::Write;
use std::path::Path;

use anyhow::{Context, bail};
use guest_agent::client;
use guest_agent::protocol::{ExecRequest, ShutdownAction};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [socket, verb, command @ ..] = arguments.as_slice() else {
        bail!("arguments: SOCKET VERB...")
    };
    let stream = guest_agent::socket::connect(Path::new(socket)).with_context(|| socket.clone())?;
    stream.set_nonblocking(true)?;
    let stream = tokio::net::UnixStream::from_std(stream)?;
    match verb.as_str() {
        "hello" => println!("{:#?}", client::hello(stream).await?),
        "state" => println!("{}", serde_json::to_string_pretty(&client::state(stream).await?)?),
        "poweroff" => client::shutdown(stream, ShutdownAction::Poweroff).await?,
        "exec" => {
            let request = ExecRequest {
                command: command.to_vec(),
                ..ExecRequest::default()
            };
            let (out, err, status) = client::exec(stream, request).await?.events.collect().await?;
            std::io::stdout().write_all(&out)?;
            std::io::stderr().write_all(&err)?;
            std::process::exit(status);
        }
        other => bail!("{other:?} is none of hello, state, poweroff, exec"),
    }
    Ok(())
}
