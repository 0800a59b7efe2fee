//! Taps: the host's end of a virtual machine's network card.

/// A tap to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TapSpec {
    /// The link's name on the host.
    pub host_name: String,
    /// The bridge to plug it into.
    pub bridge: String,
    /// Largest packet; the bridge's when `None`.
    pub mtu: Option<u32>,
    /// Whether further queues may be opened on it.
    pub multi_queue: bool,
    /// Whether it may talk to the bridge only, not to other isolated ports (`security.port_isolation`).
    pub isolated: bool,
}
