//! Where tests end the daemon: between every two steps of a change.
//!
//! `VIRGA_CRASH_AT=NAME` makes the process abort when it comes to that point, as `kill -9` would at that moment. Builds
//! without debug assertions have no such points.

/// A place between two steps.
pub(crate) fn point(name: &str) {
    if cfg!(debug_assertions) && std::env::var_os("VIRGA_CRASH_AT").is_some_and(|wanted| wanted == name) {
        tracing::warn!(name, "ending here because VIRGA_CRASH_AT says so");
        std::process::abort();
    }
}
