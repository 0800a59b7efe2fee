//! Memory that is plugged while the guest runs.

use devices::virtio::mem::{self, Mem};

use super::{AttachError, Made, failed};
use crate::arch::layout;
use crate::config::{MemoryHotplugConfig, VmConfig};

/// Makes the memory device. Its region is a part of guest memory already.
pub(super) fn make(config: &VmConfig, hotplug: &MemoryHotplugConfig) -> Result<Made, AttachError> {
    let region = layout::hotplug_region(config.memory_bytes, hotplug.max_bytes);
    let (address, region_bytes) = region.unwrap_or_default();
    let device = Mem::new(mem::Config {
        address,
        region_bytes,
        block_bytes: hotplug.block_bytes,
        node: hotplug.node,
        requested_bytes: hotplug.requested_bytes,
    })
    .map_err(failed("memory", "memory", "memory.hotplug"))?;
    Ok(Made::new("memory", "memory", device))
}
