//! Virtio 1.3 devices: the trait by which a transport drives a device, queues, workers, and the devices themselves.

pub mod balloon;
pub mod block;
pub mod buffer;
pub mod config_space;
pub mod console;
pub mod device;
pub mod mem;
pub mod net;
pub mod pmem;
pub mod queue;
pub mod rate_limiter;
pub mod rng;
pub mod transport;
pub mod update;
pub mod vhost;
pub mod vsock;
pub mod worker;
