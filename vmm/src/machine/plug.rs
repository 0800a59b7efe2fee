//! Devices of a machine: changed, added and removed while it lives.

use std::time::Duration;

use serde_json::Value;
use vmm_sys_util::eventfd::EventFd;

use super::{LifeError, Machine};
use crate::attach::{self, Attached, Slots};
use crate::config::NewDevice;
use crate::control::state::{DeviceInfo, DeviceState, VmState};
use crate::events::Event;

/// How long a device may take to answer an update. It does at once unless its host disk or network keeps it waiting.
const UPDATE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a new device may take. A back end has a few seconds to say what it can; clients wait for ten.
const MAKE_TIMEOUT: Duration = Duration::from_secs(8);

/// How a device is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// The guest is asked to let go of it.
    Asked,
    /// It is gone at once, as when a cable is pulled.
    Forced,
}

impl Machine {
    /// All devices.
    #[must_use]
    pub fn devices(&self) -> Vec<DeviceInfo> {
        self.devices
            .iter()
            .map(|device| device.info.clone())
            .chain(self.watchdog.iter().map(|(_, info)| info.clone()))
            .chain([self.serial_info.clone()])
            .collect()
    }

    fn find(&self, id: &str) -> Result<usize, LifeError> {
        let mut devices = self.devices.iter();
        devices
            .position(|device| device.info.id == id)
            .ok_or_else(|| LifeError::NoDevice(id.to_owned()))
    }

    /// Changes something of a device.
    pub fn update_device(&self, id: &str, update: Value) -> Result<Value, LifeError> {
        let device = &self.devices[self.find(id)?];
        let answer = device.update(update).wait(UPDATE_TIMEOUT);
        answer.map_err(|source| LifeError::Update {
            id: id.to_owned(),
            source,
        })
    }

    fn slots(&self) -> Result<&Slots, LifeError> {
        self.slots.as_ref().ok_or(LifeError::NoSlots)
    }

    /// Signalled when the guest has let go of a device; [`finish_removals`](Self::finish_removals) is next.
    #[must_use]
    pub fn let_go_event(&self) -> Option<&EventFd> {
        self.slots.as_ref().map(Slots::let_go_event)
    }

    /// Adds a device. A guest that runs is told of it.
    pub fn add_device(&mut self, new: NewDevice) -> Result<DeviceInfo, LifeError> {
        let slots = self.slots()?;
        let config = self.config.with_device(&new)?;
        let context = config.clone();
        // Made where filters allow what it takes.
        let made = self
            .manager
            .run_apart(MAKE_TIMEOUT, move || attach::make(&context, &new))??;
        let attached = slots.attach(made)?;
        let info = attached.info.clone();
        if self.state != VmState::Created {
            slots.announce(&attached);
            self.events.raise(Event::Slots).map_err(LifeError::Event)?;
        }
        self.devices.push(attached);
        self.config = config;
        Ok(info)
    }

    /// Removes a device. Returns whether it is gone already; otherwise the guest has been asked, and asking again does no
    /// harm.
    pub fn remove_device(&mut self, id: &str, how: Removal) -> Result<bool, LifeError> {
        let index = self.find(id)?;
        let slots = self.slots()?;
        let device = &self.devices[index];
        if device.slot().is_none() {
            return Err(LifeError::Stays(id.to_owned()));
        }
        match (self.state, how) {
            (VmState::Created, _) => slots.withdraw(device),
            (_, Removal::Forced) => slots.take(device),
            (_, Removal::Asked) => {
                slots.ask(device);
                self.devices[index].info.state = DeviceState::Removing;
                self.events.raise(Event::Slots).map_err(LifeError::Event)?;
                return Ok(false);
            }
        }
        self.drop_device(index);
        if self.state != VmState::Created {
            self.events.raise(Event::Slots).map_err(LifeError::Event)?;
        }
        Ok(true)
    }

    /// Gives up the devices that the guest has let go of.
    pub fn finish_removals(&mut self) {
        let Some(slots) = &self.slots else { return };
        for slot in slots.take_let_go() {
            let at = |device: &Attached| device.slot() == Some(slot);
            // There is none if it was taken by force before.
            if let Some(index) = self.devices.iter().position(at) {
                tracing::info!(
                    id = self.devices[index].info.id,
                    slot,
                    "the guest has let go of a device"
                );
                self.drop_device(index);
            }
        }
    }

    fn drop_device(&mut self, index: usize) {
        let device = self.devices.remove(index);
        self.config.remove_device(&device.info.id);
    }
}
