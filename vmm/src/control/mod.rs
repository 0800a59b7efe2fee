//! The control socket: HTTP/1.1 with JSON over a unix socket, one request per connection.
//!
//! [`server`] collects requests and their descriptors, [`http`] parses them, [`api`] finds who answers in the table of
//! [`requests`], and [`state`] has the documents.

pub mod api;
pub mod files;
pub mod http;
mod plug;
pub mod requests;
pub mod server;
pub mod state;
