//! The guest's side, for tests and fuzz targets: memory, a driver's end of queues, and interrupts that can be waited for.

mod driver;
mod guest;
mod harness;
mod machine;
#[cfg(test)]
mod volume;

pub use driver::{DriverQueue, Part};
pub use guest::{Guest, MEMORY_SIZE};
pub use harness::Harness;
pub use machine::{Notifications, TestInterrupt, TestMsi, TestVector, machine};
#[cfg(test)]
pub(crate) use volume::Volume;

use std::time::Duration;

/// How long tests wait for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(10);
