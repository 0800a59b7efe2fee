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
        // Made first, which takes its time, then announced together.
        while self.vcpus.len() < usize::from(count) {
            // At most 32.
            let next = self.vcpus.len() as u8;
            self.make_vcpu(next)?;
        }
        let held = self.pluggable.save().held;
        let is_held = |index: &u8| held & 1 << *index != 0;
        self.pluggable.add_all((0..count).filter(|index| !is_held(index)));
        let mut leaving = false;
        if self.state == VmState::Created {
            (count..most)
                .filter(is_held)
                .for_each(|index| self.pluggable.forget(index));
        } else {
            self.pluggable.ask_all((count..most).filter(is_held));
            leaving = (count..most).any(|index| is_held(&index));
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
