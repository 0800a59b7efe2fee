//! `virgad`, the daemon: every resource of the REST API, background operations, events and the store they live in.
//!
//! A request comes in over the unix socket ([`server`]), finds its handler ([`routes`]), works on documents of the
//! [`store`] and on the rooms next door (`storage`, `network`, `images`, instance supervisors), and is answered in
//! Incus' envelopes ([`response`]). Whatever takes long becomes an [`operations`] entry; whatever changes is told
//! to [`events`]. No state lives in this process alone: killed at any instruction, the next daemon completes or rolls
//! back what was begun ([`recovery`]).

pub mod certificate_text;
pub mod config_keys;
mod crash;
pub mod daemon;
pub mod error;
pub mod events;
pub mod extensions;
pub mod filter;
pub mod host;
pub mod image_files;
pub mod instances;
pub mod intents;
pub mod listing;
pub mod metrics;
pub mod microvm_images;
pub mod names;
pub mod networks;
pub mod operations;
pub mod paths;
pub mod pools;
pub mod projects;
pub mod publish;
pub mod recovery;
pub mod request;
pub mod resources;
pub mod response;
pub mod routes;
pub mod server;
pub mod storage_drivers;
pub mod store;
pub mod update;
pub mod used_by;
pub mod volumes;
pub mod warnings;

pub use daemon::Daemon;
pub use error::ApiError;
