//! Instances: everything under `/1.0/instances`.
//!
//! An instance is a record in the store ([`record`]), a volume in a pool, and, while it runs, a supervisor process with a run
//! directory ([`supervisor`]). The two [`driver`]s know what is special to containers and virtual machines. Each change takes the
//! instance's [`lock`]; each change of more than one thing first says in the record's phase what it is about to do, so that
//! [`recover`] can complete or undo it after the daemon was killed at any instruction. What runs is adopted.

pub mod agent;
mod console;
mod content;
mod crash;
pub mod create;
pub mod delete;
pub mod devices;
pub mod driver;
mod events;
mod exec;
pub mod expand;
mod files;
mod ids;
pub mod image_volume;
pub mod limits;
pub mod lock;
mod logs;
mod manager;
mod metadata;
mod names;
mod netns;
mod offline;
pub mod plan;
mod ports;
pub mod publish;
pub mod record;
mod recover;
mod rename;
mod restore;
mod routes;
mod snapshots;
mod start;
pub mod state;
mod stop;
pub mod supervisor;
mod templates;
mod update;
mod validate;
mod watch;

pub use crash::Step;
pub use manager::{Manager, Running};
pub use routes::routes;
