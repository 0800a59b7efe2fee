//! The memory that a front end shares: regions of its guest's memory, each with an address in the front end's own process.

use crate::memory::Ram;
use std::io;
use std::sync::Arc;
use vhost::vhost_user::Error;
use vhost::vhost_user::message::VhostUserMemoryRegion;
use vm_memory::{Address, GuestAddress, GuestMemoryRegion, GuestRegionMmap};

/// The most regions. Guests have a handful; hotplugged memory adds one a module.
pub(super) const REGIONS_MAX: usize = 64;

/// One region and where the front end has it.
#[derive(Clone)]
struct Region {
    user_address: u64,
    mapping: Arc<GuestRegionMmap<()>>,
}

/// All regions, by guest address.
#[derive(Default, Clone)]
pub(super) struct Regions(Vec<Region>);

fn refused(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::ReqHandlerError(io::Error::new(io::ErrorKind::InvalidInput, error))
}

impl Regions {
    /// Maps one more region.
    pub(super) fn add(&mut self, region: &VhostUserMemoryRegion, file: std::fs::File) -> Result<(), Error> {
        if self.0.len() >= REGIONS_MAX {
            return Err(refused(format!("more than {REGIONS_MAX} memory regions")));
        }
        let address = region.guest_phys_addr;
        let mapping = GuestRegionMmap::new(region.mmap_region(file)?, GuestAddress(address))
            .ok_or_else(|| refused(format!("the memory region at {address:#x} is too long")))?;
        let mapping = Arc::new(mapping);
        let at = self
            .0
            .partition_point(|other| other.mapping.start_addr().raw_value() < address);
        self.0.insert(
            at,
            Region {
                user_address: region.user_addr,
                mapping,
            },
        );
        Ok(())
    }

    /// Forgets the region at this guest address; it is unmapped when nothing uses it any more.
    pub(super) fn remove(&mut self, guest_address: u64) -> Result<(), Error> {
        let before = self.0.len();
        self.0
            .retain(|region| region.mapping.start_addr().raw_value() != guest_address);
        match self.0.len() < before {
            true => Ok(()),
            false => Err(refused(format!("no memory region at {guest_address:#x}"))),
        }
    }

    /// The memory map as devices see it.
    pub(super) fn ram(&self) -> Result<Ram, Error> {
        if self.0.is_empty() {
            return Ok(Ram::new());
        }
        let mappings = self.0.iter().map(|region| region.mapping.clone()).collect();
        Ram::from_arc_regions(mappings).map_err(refused)
    }

    /// The guest's address of what the front end has at `user_address`.
    pub(super) fn guest_address(&self, user_address: u64) -> Option<u64> {
        self.0.iter().find_map(|region| {
            let offset = user_address.checked_sub(region.user_address)?;
            // Within the region, whose end does not overflow.
            (offset < region.mapping.len()).then(|| region.mapping.start_addr().raw_value() + offset)
        })
    }
}
