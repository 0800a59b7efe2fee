//! The unix socket: accepting connections, telling who is at the other end, ending gracefully.
