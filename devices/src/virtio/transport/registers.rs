//! What every virtio transport has behind its registers: device status (virtio 1.3 §2.1), feature negotiation (§2.2), queue
//! set-up, activation and reset (§3.1). A transport translates its own register layout to these calls.

use super::{Machine, TransportError};
use crate::virtio::device::{Activation, Interrupt, Reset, VirtioDevice};
use crate::virtio::queue::{Queue, QueueState};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use virtio_bindings::virtio_config::{VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_RING_PACKED, VIRTIO_F_VERSION_1};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// Device status bits (§2.1).
pub mod status {
    /// The driver has seen the device.
    pub const ACKNOWLEDGE: u8 = 1;
    /// The driver knows how to drive it.
    pub const DRIVER: u8 = 2;
    /// The driver is ready; the device works.
    pub const DRIVER_OK: u8 = 4;
    /// Features are agreed on.
    pub const FEATURES_OK: u8 = 8;
    /// The device cannot go on until it is reset.
    pub const NEEDS_RESET: u8 = 64;
    /// The driver has given up.
    pub const FAILED: u8 = 128;
}

/// Set by workers, read by the transport as the NEEDS_RESET bit.
pub type NeedsReset = Arc<AtomicBool>;

/// All features that are offered to the drivers of a device: its own, and those of the queues. Without VERSION_1 there
/// is no modern driver; we have no legacy interface. ACCESS_PLATFORM is left to IOMMU support.
pub(super) fn offered(device: &dyn VirtioDevice) -> u64 {
    let own = device.features() & !(1 << VIRTIO_F_ACCESS_PLATFORM);
    own | 1 << VIRTIO_F_VERSION_1 | device.ring_features()
}

/// What a snapshot holds of these registers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistersState {
    /// Device status without NEEDS_RESET.
    pub status: u8,
    /// Whether the device waits for a reset.
    pub needs_reset: bool,
    /// Features the driver accepted so far.
    pub driver_features: u64,
    /// Half of the device's features that is shown.
    pub device_features_select: u32,
    /// Half of the driver's features that is written.
    pub driver_features_select: u32,
    /// Queue that the queue registers name.
    pub queue_select: u16,
    /// All queues.
    pub queues: Vec<QueueState>,
}

/// A queue while the driver sets it up.
struct QueueSetup {
    max_size: u16,
    state: QueueState,
    notify: EventFd,
}

/// Which of a queue's three addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueAddress {
    /// Descriptor table.
    Descriptor,
    /// Available ring ("driver area").
    Available,
    /// Used ring ("device area").
    Used,
}

/// The common registers and the device behind them.
pub struct Registers {
    device: Box<dyn VirtioDevice>,
    machine: Machine,
    interrupt: Arc<dyn Interrupt>,
    needs_reset: NeedsReset,
    /// The driver has asked for a reset that is not done yet.
    resetting: bool,
    status: u8,
    driver_features: u64,
    device_features_select: u32,
    driver_features_select: u32,
    queue_select: u16,
    queues: Vec<QueueSetup>,
}

impl Registers {
    /// Puts registers in front of `device`. `interrupt` sets `needs_reset` when the device asks for a reset.
    pub fn new(
        device: Box<dyn VirtioDevice>,
        machine: Machine,
        interrupt: Arc<dyn Interrupt>,
        needs_reset: NeedsReset,
    ) -> Result<Self, TransportError> {
        let mut queues = Vec::new();
        for &max_size in device.queue_sizes() {
            let notify =
                EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map_err(|source| TransportError::Resource {
                    what: "an event descriptor",
                    source,
                })?;
            let state = QueueState {
                size: max_size,
                ..QueueState::default()
            };
            queues.push(QueueSetup {
                max_size,
                state,
                notify,
            });
        }
        Ok(Self {
            device,
            machine,
            interrupt,
            needs_reset,
            resetting: false,
            status: 0,
            driver_features: 0,
            device_features_select: 0,
            driver_features_select: 0,
            queue_select: 0,
            queues,
        })
    }

    /// The device.
    pub fn device(&self) -> &dyn VirtioDevice {
        &*self.device
    }

    /// The device, to pause, resume or write its configuration.
    pub fn device_mut(&mut self) -> &mut dyn VirtioDevice {
        &mut *self.device
    }

    /// What the transport needs of the machine.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    fn offered(&self) -> u64 {
        offered(&*self.device)
    }

    /// The selected half of the offered features.
    pub fn device_features(&self) -> u32 {
        match self.device_features_select {
            0 => self.offered() as u32,
            1 => (self.offered() >> 32) as u32,
            _ => 0,
        }
    }

    /// The selected half of the accepted features.
    pub fn accepted_features(&self) -> u32 {
        match self.driver_features_select {
            0 => self.driver_features as u32,
            1 => (self.driver_features >> 32) as u32,
            _ => 0,
        }
    }

    /// The driver accepts features; too late once they are agreed on (§3.1.1 step 5).
    pub fn accept_features(&mut self, half: u32) {
        if self.status & status::FEATURES_OK != 0 {
            return;
        }
        let half = u64::from(half);
        match self.driver_features_select {
            0 => self.driver_features = self.driver_features & !0xffff_ffff | half,
            1 => self.driver_features = self.driver_features & 0xffff_ffff | half << 32,
            _ => {}
        }
    }

    /// Which half of the device's features is shown.
    pub fn device_features_select(&self) -> u32 {
        self.device_features_select
    }

    /// Selects the half of the device's features that is shown.
    pub fn select_device_features(&mut self, half: u32) {
        self.device_features_select = half;
    }

    /// Which half of the driver's features is written.
    pub fn driver_features_select(&self) -> u32 {
        self.driver_features_select
    }

    /// Selects the half of the driver's features that is written.
    pub fn select_driver_features(&mut self, half: u32) {
        self.driver_features_select = half;
    }

    /// The device status. As long as a reset is not done it stays what it was, which is not 0 (§2.4.1).
    pub fn status(&mut self) -> u8 {
        self.is_resetting();
        match self.needs_reset.load(Ordering::Acquire) {
            true => self.status | status::NEEDS_RESET,
            false => self.status,
        }
    }

    /// The driver writes the device status. Returns true if it was a reset.
    pub fn write_status(&mut self, new: u8) -> bool {
        if new == 0 {
            self.reset();
            return true;
        }
        if self.is_resetting() {
            return false;
        }
        // Only a reset clears bits (§2.1.1), and NEEDS_RESET is ours.
        let added = new & !self.status & !status::NEEDS_RESET;
        if added & status::FEATURES_OK != 0 && !self.features_agree() {
            // The driver reads back and sees the bit missing (§3.1.1 step 6).
            self.status |= added & !status::FEATURES_OK & !status::DRIVER_OK;
            return false;
        }
        self.status |= added;
        if added & status::DRIVER_OK != 0 {
            self.activate();
        }
        false
    }

    fn features_agree(&self) -> bool {
        self.driver_features & !self.offered() == 0 && self.driver_features & 1 << VIRTIO_F_VERSION_1 != 0
    }

    fn activate(&mut self) {
        if self.status & status::FEATURES_OK == 0 {
            tracing::debug!(device = ?self.device.device_type(), "driver skipped feature negotiation");
            self.interrupt.needs_reset();
            return;
        }
        if let Err(error) = self.try_activate() {
            // The guest can repeat this as often as it likes, so it is no warning.
            tracing::debug!(device = ?self.device.device_type(), error = %error, "device not activated");
            self.interrupt.needs_reset();
        }
    }

    fn try_activate(&mut self) -> Result<(), TransportError> {
        let mut queues = Vec::new();
        for (setup, index) in self.queues.iter().zip(0..) {
            let notify = setup
                .notify
                .try_clone()
                .map_err(|source| TransportError::Resource {
                    what: "an event descriptor",
                    source,
                })?;
            let queue = Queue::new(
                index,
                setup.max_size,
                &setup.state,
                self.driver_features,
                self.machine.memory.clone(),
                self.interrupt.clone(),
                notify,
            )
            .map_err(|error| TransportError::State(error.to_string()))?;
            queues.push(queue);
        }
        self.device.activate(Activation {
            memory: self.machine.memory.clone(),
            queues,
            interrupt: self.interrupt.clone(),
            features: self.driver_features,
            thread_hook: self.machine.thread_hook.clone(),
        })?;
        Ok(())
    }

    /// Back to the beginning, at any moment (§2.4).
    pub fn reset(&mut self) {
        self.resetting = self.device.reset() == Reset::Pending;
        if !self.resetting {
            self.clear();
        }
    }

    /// Whether a reset has still to wait for requests that the host's kernel or a back end has.
    pub fn is_resetting(&mut self) -> bool {
        if self.resetting {
            self.reset();
        }
        self.resetting
    }

    /// All registers as they are at the beginning.
    fn clear(&mut self) {
        self.status = 0;
        self.needs_reset.store(false, Ordering::Release);
        self.driver_features = 0;
        self.device_features_select = 0;
        self.driver_features_select = 0;
        self.queue_select = 0;
        for queue in &mut self.queues {
            queue.state = QueueState {
                size: queue.max_size,
                ..QueueState::default()
            };
            // A notification that nobody took must not reach the next driver's queue; empty is fine too.
            let _ = queue.notify.read();
        }
    }

    /// Number of queues.
    pub fn queue_count(&self) -> u16 {
        // Devices have a handful of queues, chosen by us.
        self.queues.len() as u16
    }

    /// The selected queue's number.
    pub fn queue_select(&self) -> u16 {
        self.queue_select
    }

    /// Selects the queue that the other queue registers name; there need not be one (§4.1.4.3).
    pub fn select_queue(&mut self, index: u16) {
        self.queue_select = index;
    }

    fn queue(&self) -> Option<&QueueSetup> {
        self.queues.get(usize::from(self.queue_select))
    }

    /// The selected queue while it may be changed: not enabled, and the device not at work.
    fn queue_in_setup(&mut self) -> Option<&mut QueueSetup> {
        if self.status & status::DRIVER_OK != 0 {
            return None;
        }
        self.queues
            .get_mut(usize::from(self.queue_select))
            .filter(|queue| !queue.state.ready)
    }

    /// The selected queue's greatest size, zero if there is no such queue.
    pub fn queue_max_size(&self) -> u16 {
        self.queue().map_or(0, |queue| queue.max_size)
    }

    /// The selected queue's size, zero if there is no such queue.
    pub fn queue_size(&self) -> u16 {
        self.queue().map_or(0, |queue| queue.state.size)
    }

    /// The driver chooses the selected queue's size. Sizes that cannot be are ignored.
    pub fn set_queue_size(&mut self, size: u16) {
        // Packed queues may have any size (§2.8.10.1).
        let packed = self.driver_features & 1 << VIRTIO_F_RING_PACKED != 0;
        if let Some(queue) = self.queue_in_setup()
            && (size.is_power_of_two() || packed && size > 0)
            && size <= queue.max_size
        {
            queue.state.size = size;
        }
    }

    /// Whether the selected queue is enabled.
    pub fn queue_ready(&self) -> bool {
        self.queue().is_some_and(|queue| queue.state.ready)
    }

    /// The driver enables the selected queue, or (virtio-mmio only) disables it again before the device works.
    pub fn set_queue_ready(&mut self, ready: bool) {
        if self.status & status::DRIVER_OK != 0 {
            return;
        }
        if let Some(queue) = self.queues.get_mut(usize::from(self.queue_select)) {
            queue.state.ready = ready;
        }
    }

    /// One of the selected queue's addresses.
    pub fn queue_address(&self, which: QueueAddress) -> u64 {
        self.queue().map_or(0, |queue| match which {
            QueueAddress::Descriptor => queue.state.descriptor_table,
            QueueAddress::Available => queue.state.available_ring,
            QueueAddress::Used => queue.state.used_ring,
        })
    }

    /// Replaces the low or high half of one of the selected queue's addresses.
    pub fn set_queue_address(&mut self, which: QueueAddress, high: bool, value: u32) {
        let Some(queue) = self.queue_in_setup() else {
            return;
        };
        let address = match which {
            QueueAddress::Descriptor => &mut queue.state.descriptor_table,
            QueueAddress::Available => &mut queue.state.available_ring,
            QueueAddress::Used => &mut queue.state.used_ring,
        };
        let value = u64::from(value);
        *address = match high {
            false => *address & !0xffff_ffff | value,
            true => *address & 0xffff_ffff | value << 32,
        };
    }

    /// The driver notifies a queue by a write that reached this process.
    pub fn notify_queue(&self, index: u16) {
        if self.status & status::DRIVER_OK != 0
            && let Some(queue) = self.queues.get(usize::from(index))
        {
            // Fails only when the counter is full, and then the worker is awake already.
            let _ = queue.notify.write(1);
        }
    }

    /// The descriptors that queue notifications signal, in order.
    pub fn notify_fds(&self) -> impl Iterator<Item = (u16, &EventFd)> {
        (0..).zip(self.queues.iter().map(|queue| &queue.notify))
    }

    /// What a snapshot holds. The device must be paused if the driver has activated it.
    pub fn save(&self) -> RegistersState {
        let mut queues: Vec<_> = self.queues.iter().map(|queue| queue.state.clone()).collect();
        for (saved, live) in queues.iter_mut().zip(self.device.queue_states()) {
            if live.ready {
                *saved = live;
            }
        }
        RegistersState {
            status: self.status,
            needs_reset: self.needs_reset.load(Ordering::Acquire),
            driver_features: self.driver_features,
            device_features_select: self.device_features_select,
            driver_features_select: self.driver_features_select,
            queue_select: self.queue_select,
            queues,
        }
    }

    /// Takes over a saved state, and activates the device if it was active.
    pub fn restore(&mut self, state: RegistersState) -> Result<(), TransportError> {
        let (saved, own) = (state.queues.len(), self.queues.len());
        if saved != own {
            return Err(TransportError::State(format!(
                "it has {saved} queues where the device has {own}"
            )));
        }
        if state.driver_features & !self.offered() != 0 {
            let missing = state.driver_features & !self.offered();
            return Err(TransportError::State(format!(
                "the device lacks the features {missing:#x} in use"
            )));
        }
        // Not a reset of the device, which would forget what it was restored with.
        self.clear();
        self.status = state.status;
        self.needs_reset.store(state.needs_reset, Ordering::Release);
        self.driver_features = state.driver_features;
        self.device_features_select = state.device_features_select;
        self.driver_features_select = state.driver_features_select;
        self.queue_select = state.queue_select;
        for (queue, saved) in self.queues.iter_mut().zip(state.queues) {
            queue.state = saved;
        }
        match self.status & status::DRIVER_OK != 0 && !state.needs_reset {
            true => self.try_activate(),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
#[path = "registers_tests.rs"]
mod tests;
