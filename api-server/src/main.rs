//! The daemon's program: arguments, logging, the lock, the socket, signals.

mod args;

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};
use virgad::events::LoggingLayer;
use virgad::paths::StatePaths;
use virgad::{Daemon, recovery, routes, server};

use args::{Args, LogFormat};

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("virgad: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    let log_events = start_logging(args);
    let state_dir = std::path::absolute(&args.state_dir).context("failed to find the state directory")?;
    let paths = StatePaths::new(state_dir);
    recovery::make_directories(&paths)?;
    let lock = server::StateLock::take(&paths.lock()).context("failed to lock the state directory")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(usize::from(args.workers.get()))
        .thread_name("virgad")
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let outcome = runtime.block_on(serve(args, paths, &log_events));
    // Blocking work that is still going on (a copy, say) must not hold up the end; recovery deals with it.
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    drop(lock);
    outcome
}

async fn serve(args: &Args, paths: StatePaths, log_events: &LoggingLayer) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?;
    let socket = paths.socket();
    let daemon = Daemon::open(paths, args.bootstrap.into())
        .await
        .context("failed to start")?;
    log_events.connect(daemon.events.clone());
    let listener = server::Listener::bind(&socket, args.group.as_deref())
        .with_context(|| format!("failed to listen on {}", socket.display()))?;
    let stop = daemon.stop.clone();
    let serving = tokio::spawn(server::serve(
        listener,
        routes::router(daemon.clone()),
        stop.clone(),
    ));
    tracing::info!(socket = %socket.display(), pid = std::process::id(), "ready");
    server::notify_ready();
    tokio::select! {
        _ = terminate.recv() => tracing::info!("ending because of SIGTERM"),
        _ = interrupt.recv() => tracing::info!("ending because of SIGINT"),
        () = stop.cancelled() => tracing::info!("ending as asked"),
    }
    daemon.close().await;
    serving.await.context("the server ended early")
}

fn start_logging(args: &Args) -> LoggingLayer {
    let level = match args.verbose {
        0 => "info",
        1 => "virgad=debug,info",
        _ => "debug",
    };
    let to_stderr = || EnvFilter::try_from_env("VIRGAD_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let stderr = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(ansi);
    let stderr = match args.log_format {
        LogFormat::Text => stderr.with_target(false).with_filter(to_stderr()).boxed(),
        LogFormat::Json => stderr.json().with_filter(to_stderr()).boxed(),
    };
    let events = LoggingLayer::default();
    let to_events = events.clone().with_filter(EnvFilter::new("off,virgad=debug"));
    tracing_subscriber::registry().with(stderr).with(to_events).init();
    events
}
