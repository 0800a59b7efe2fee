//! Queue notifications by ioeventfd: the guest's write signals a descriptor within the kernel.

use std::io;
use std::sync::Arc;

use devices::interrupt::NotifyRegistrar;
use kvm_ioctls::{IoEventAddress, NoDatamatch, VmFd};
use vmm_sys_util::eventfd::EventFd;

/// Registers notifications with a VM.
pub struct Notifications(pub Arc<VmFd>);

impl NotifyRegistrar for Notifications {
    fn register(&self, address: u64, datamatch: Option<u32>, fd: &EventFd) -> io::Result<()> {
        let address = IoEventAddress::Mmio(address);
        match datamatch {
            Some(value) => self.0.register_ioevent(fd, &address, value)?,
            None => self.0.register_ioevent(fd, &address, NoDatamatch)?,
        }
        Ok(())
    }

    fn unregister(&self, address: u64, datamatch: Option<u32>, fd: &EventFd) -> io::Result<()> {
        let address = IoEventAddress::Mmio(address);
        match datamatch {
            Some(value) => self.0.unregister_ioevent(fd, &address, value)?,
            None => self.0.unregister_ioevent(fd, &address, NoDatamatch)?,
        }
        Ok(())
    }
}
