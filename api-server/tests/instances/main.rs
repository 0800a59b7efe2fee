//! Instances through the API of the real daemon, with real containers, in a network namespace of the test's own.
//!
//! Needs root, and the programs of the other rooms beside the daemon's (or where `VIRGA_LIBEXEC_DIR` says).

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod adoption;
mod changes;
mod crashes;
mod exec;
mod files;
mod http;
mod image;
mod launch;
mod refusals;
mod test_host;
