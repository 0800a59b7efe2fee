//! Progress on standard error: a spinner with the operation's own words, or a
//! bar for a transfer of known size. Nothing is drawn when standard error is no
//! terminal or `--quiet` was given.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

fn target(quiet: bool) -> ProgressDrawTarget {
    // indicatif itself hides on what is no terminal.
    if quiet {
        ProgressDrawTarget::hidden()
    } else {
        ProgressDrawTarget::stderr_with_hz(10)
    }
}

/// A spinner that says `message`.
pub(crate) fn spinner(quiet: bool, message: impl Into<String>) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, target(quiet));
    bar.set_message(message.into());
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// A bar over `total` bytes.
pub(crate) fn transfer(quiet: bool, total: u64, message: impl Into<String>) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), target(quiet));
    if let Ok(style) =
        ProgressStyle::with_template("{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}")
    {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_message(message.into());
    bar
}

/// A bar over the rounds of a measurement.
pub(crate) fn rounds(quiet: bool) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(1), target(quiet));
    if let Ok(style) = ProgressStyle::with_template("[{bar:30}] {pos}/{len} {msg}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}
