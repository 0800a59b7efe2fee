//! Background operations: everything that takes long, with progress, cancellation and websockets.
//!
//! A handler describes an operation ([`OperationSpec`]) and hands over the work as a future; the client gets the
//! operation at once and follows it by events, by `wait`, or by asking. An operation lives in memory only: what
//! has to survive the daemon is in the store as an intent ([`crate::recovery`]).

mod context;
mod operation;
mod registry;
mod spec;

pub use context::OperationContext;
pub use operation::Operation;
pub use registry::Operations;
pub use spec::OperationSpec;
