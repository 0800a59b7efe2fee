//! Processors that come and go.
//!
//! KVM takes no vCPU back, so one that the guest has let go of keeps its thread, which sleeps in the kernel; it is the first to be
//! announced again.

use super::{LifeError, Machine};
use crate::control::state::VmState;
use crate::events::Event;
use crate::kvm::vcpu::Vcpu;

impl Machine {
    /// Number of processors that the guest has, or may take.
    #[must_use]
    pub fn processor_count(&self) -> u8 {
        // At most 32.
        self.pluggable.save().present.count_ones() as u8
    }

    /// Gives the guest this many processors, or asks it to let go of those beyond. Returns whether that is all; the guest
    /// takes its time to let go.
    pub fn set_processor_count(&mut self, count: u8) -> Result<bool, LifeError> {
        if self.state == VmState::Stopping {
            return Err(self.refuse("change the number of vCPUs"));
        }
        let most = self.config.max_vcpus();
        if count == 0 || count > most {
            return Err(LifeError::Processors { count, most });
        }
        for index in 0..count {
            if self.pluggable.is_held(index) {
                continue;
            }
            if usize::from(index) >= self.vcpus.len() {
                self.make_vcpu(index)?;
            }
            self.pluggable.add(index);
        }
        let mut leaving = false;
        for index in (count..most).filter(|index| self.pluggable.is_held(*index)) {
            if self.state == VmState::Created {
                self.pluggable.forget(index);
            } else {
                self.pluggable.ask(index);
                leaving = true;
            }
        }
        if self.state != VmState::Created {
            self.events.raise(Event::Processors).map_err(LifeError::Event)?;
        }
        Ok(!leaving)
    }

    /// Makes the next vCPU, on the thread that may start threads. It waits for the guest to start it.
    fn make_vcpu(&mut self, index: u8) -> Result<(), LifeError> {
        let (processors, context) = (self.processors.clone(), self.context.clone());
        let vcpu = self.manager.run(move || {
            let fd = processors.create(index)?;
            Vcpu::spawn(index, fd, context).map_err(LifeError::Thread)
        });
        self.vcpus.push(vcpu.ok_or(LifeError::NoManager)??);
        Ok(())
    }
}
