//! The control socket: HTTP/1.1 with JSON over a unix socket, one request per connection.

pub mod api;
pub mod http;
pub mod server;
pub mod state;
