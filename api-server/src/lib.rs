//! `virgad`, the daemon: every resource of the REST API, background operations, events and the store they live in.
//!
//! A request comes in over the unix socket ([`server`]), finds its handler ([`routes`]), works on documents of the
//! [`store`] and on the rooms next door (`storage`, `network`, `images`, instance supervisors), and is answered in
//! Incus' envelopes ([`response`]). Whatever takes long becomes an [`operations`] entry; whatever changes is told
//! to [`events`]. No state lives in this process alone: killed at any instruction, the next daemon completes or rolls
//! back what was begun ([`recovery`]).

pub mod config_keys;
pub mod daemon;
pub mod error;
pub mod events;
pub mod extensions;
pub mod filter;
pub mod host;
pub mod instances;
pub mod listing;
pub mod operations;
pub mod paths;
pub mod pools;
pub mod projects;
pub mod recovery;
pub mod request;
pub mod response;
pub mod routes;
pub mod server;
pub mod storage_drivers;
pub mod store;
pub mod used_by;

pub use daemon::Daemon;
pub use error::ApiError;
