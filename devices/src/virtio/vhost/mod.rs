//! Devices whose queues are served elsewhere: by the host's kernel (vhost) or by another process (vhost-user).
//!
//! The driver sees an ordinary device. Its notifications go straight to the back end, and the back end's signals straight
//! to the interrupt controller, where the transport has a descriptor for that ([`calls`]); the device's worker sets up the
//! back end ([`rings`]), stops it to pause, and otherwise sleeps. A back end reads and writes all of guest memory, like a
//! worker of our own; what it says is checked like what a guest says.

pub(super) mod calls;
mod profile;
pub(super) mod rings;
mod session;
mod user;

pub use calls::CallMetrics;
pub use profile::{Profile, TAG_LEN};
pub use session::SessionError;
pub use user::{Connector, State, VhostUser, VhostUserError, VhostUserMetrics};
