//! What the front end says, message by message (QEMU's `docs/interop/vhost-user.rst`).

use super::VhostUser;
use super::in_flight::{self, InFlight};
use super::memory::{REGIONS_MAX, Regions};
use super::ring::{Addresses, event};
use crate::virtio::device::DeviceType;
use std::fs::File;
use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight,
    VhostUserLog, VhostUserMemoryRegion, VhostUserShMemConfig, VhostUserSharedMsg,
    VhostUserSingleMemoryRegion, VhostUserVringAddrFlags, VhostUserVringState,
};
use vhost::vhost_user::{
    Error, GpuBackend, Result, VhostUserBackendReqHandlerMut, VhostUserProtocolFeatures,
    VhostUserVirtioFeatures,
};

impl VhostUserBackendReqHandlerMut for VhostUser {
    fn set_owner(&mut self) -> Result<()> {
        Ok(())
    }

    fn reset_owner(&mut self) -> Result<()> {
        self.forget_driver()
    }

    fn reset_device(&mut self) -> Result<()> {
        self.forget_driver()
    }

    fn get_features(&mut self) -> Result<u64> {
        Ok(self.offered())
    }

    fn set_features(&mut self, features: u64) -> Result<()> {
        if features & !self.offered() != 0 {
            return Err(Error::FeatureMismatch);
        }
        if features != self.features {
            self.stop()?;
        }
        self.features = features;
        // Without the protocol's own features there is no message that enables rings.
        if features & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() == 0 {
            self.rings.iter_mut().for_each(|ring| ring.enabled = true);
        }
        self.follow()
    }

    fn set_mem_table(
        &mut self,
        table: &[VhostUserMemoryRegion],
        files: Vec<File>,
        _postcopy_listening: Option<bool>,
    ) -> Result<Option<Vec<u64>>> {
        let mut regions = Regions::default();
        for (region, file) in table.iter().zip(files) {
            regions.add(region, file)?;
        }
        self.set_regions(regions).map(|()| None)
    }

    fn set_vring_num(&mut self, index: u32, num: u32) -> Result<()> {
        let ring = self.ring(index)?;
        match u16::try_from(num) {
            Ok(size) if size.is_power_of_two() && size <= ring.max_size => {
                ring.size = size;
                Ok(())
            }
            _ => Err(Error::InvalidParam),
        }
    }

    fn set_vring_addr(
        &mut self,
        index: u32,
        _flags: VhostUserVringAddrFlags,
        descriptor: u64,
        used: u64,
        available: u64,
        _log: u64,
    ) -> Result<()> {
        let addresses = Some(Addresses {
            descriptor_table: descriptor,
            available_ring: available,
            used_ring: used,
        });
        if self.ring(index)?.addresses == addresses {
            return Ok(());
        }
        self.stop()?;
        self.ring(index)?.addresses = addresses;
        self.follow()
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        // Split rings have 16 bits here.
        let base = u16::try_from(base).map_err(|_| Error::InvalidParam)?;
        self.stop()?;
        self.ring(index)?.next_available = base;
        self.follow()
    }

    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        self.stop()?;
        let ring = self.ring(index)?;
        ring.kick = None;
        let base = u32::from(ring.next_available);
        self.follow()?;
        Ok(VhostUserVringState::new(index, base))
    }

    fn set_vring_kick(&mut self, index: u8, file: Option<File>) -> Result<()> {
        let file = file.ok_or(Error::InvalidOperation(
            "rings are not polled; send a kick descriptor",
        ))?;
        let kick = event(file).map_err(Error::ReqHandlerError)?;
        self.stop()?;
        self.ring(index)?.kick = Some(kick);
        self.follow()
    }

    fn set_vring_call(&mut self, index: u8, file: Option<File>) -> Result<()> {
        let call = file.map(event).transpose().map_err(Error::ReqHandlerError)?;
        let slot = self.calls.used.get(usize::from(index));
        slot.ok_or(Error::InvalidParam)?.set(call);
        Ok(())
    }

    fn set_vring_err(&mut self, index: u8, file: Option<File>) -> Result<()> {
        let error = file.map(event).transpose().map_err(Error::ReqHandlerError)?;
        let slot = self.calls.errors.get(usize::from(index));
        slot.ok_or(Error::InvalidParam)?.set(error);
        Ok(())
    }

    fn get_protocol_features(&mut self) -> Result<VhostUserProtocolFeatures> {
        Ok(self.protocol())
    }

    fn set_protocol_features(&mut self, features: u64) -> Result<()> {
        match features & !self.protocol().bits() {
            0 => Ok(()),
            _ => Err(Error::FeatureMismatch),
        }
    }

    fn get_queue_num(&mut self) -> Result<u64> {
        // Front ends of network cards count pairs here, and MQ is not offered: which pairs are in use is a command of the
        // control queue, which stays with the front end.
        match self.device.device_type() {
            DeviceType::Net => Ok(1),
            _ => Ok(self.rings.len() as u64),
        }
    }

    fn set_vring_enable(&mut self, index: u32, enable: bool) -> Result<()> {
        self.ring(index)?.enabled = enable;
        self.follow()
    }

    fn get_config(&mut self, offset: u32, size: u32, _flags: VhostUserConfigFlags) -> Result<Vec<u8>> {
        // The size is that of a message at most. What is beyond our fields reads as zero.
        let mut bytes = vec![0; size as usize];
        self.device.config().read(u64::from(offset), &mut bytes);
        Ok(bytes)
    }

    fn set_config(&mut self, offset: u32, bytes: &[u8], _flags: VhostUserConfigFlags) -> Result<()> {
        self.device.write_config(u64::from(offset), bytes);
        Ok(())
    }

    fn get_max_mem_slots(&mut self) -> Result<u64> {
        Ok(REGIONS_MAX as u64)
    }

    fn add_mem_region(
        &mut self,
        region: &VhostUserSingleMemoryRegion,
        file: File,
        _postcopy_listening: Option<bool>,
    ) -> Result<Option<u64>> {
        let mut regions = self.regions.clone();
        regions.add(region, file)?;
        self.set_regions(regions).map(|()| None)
    }

    fn remove_mem_region(&mut self, region: &VhostUserSingleMemoryRegion) -> Result<()> {
        let mut regions = self.regions.clone();
        regions.remove(region.guest_phys_addr)?;
        self.set_regions(regions)
    }

    fn get_inflight_fd(&mut self, asked: &VhostUserInflight) -> Result<(VhostUserInflight, File)> {
        if usize::from(asked.num_queues) > self.rings.len() {
            return Err(Error::InvalidParam);
        }
        in_flight::make(asked).map_err(Error::ReqHandlerError)
    }

    fn set_inflight_fd(&mut self, given: &VhostUserInflight, file: File) -> Result<()> {
        let in_flight = InFlight::map(given, file).map_err(Error::ReqHandlerError)?;
        self.stop()?;
        self.in_flight = Some(in_flight);
        self.follow()
    }

    fn set_gpu_socket(&mut self, _gpu_backend: GpuBackend) -> Result<()> {
        Err(not_offered())
    }

    fn get_shared_object(&mut self, _uuid: VhostUserSharedMsg) -> Result<File> {
        Err(not_offered())
    }

    fn set_device_state_fd(
        &mut self,
        _direction: VhostTransferStateDirection,
        _phase: VhostTransferStatePhase,
        _fd: File,
    ) -> Result<Option<File>> {
        Err(not_offered())
    }

    fn check_device_state(&mut self) -> Result<()> {
        Err(not_offered())
    }

    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        Err(not_offered())
    }

    fn set_log_base(&mut self, _log: &VhostUserLog, _file: File) -> Result<()> {
        Err(not_offered())
    }
}

/// The answer to messages that belong to protocol features which are not offered.
fn not_offered() -> Error {
    Error::InvalidOperation("it belongs to a protocol feature that is not offered")
}
