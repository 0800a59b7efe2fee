//! The root bus: up to 32 devices with one function each, and the memory windows in which their BARs decode.
//!
//! Virtual CPU threads come in by the front ends of [`access`](super::access). Locks are taken in one order: the
//! bus, then a device; neither is held while waiting for a virtual CPU.

use super::PciDevice;
use super::access::{ConfigPorts, Ecam, Window};
use super::ghost::Ghost;
use super::host_bridge::HostBridge;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// Device numbers on a bus.
pub const SLOTS: u8 = 32;

/// Why a device could not be put on the bus.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PciError {
    /// The slot has a device or does not exist.
    #[error("PCI slot {0} is taken or does not exist")]
    SlotTaken(u8),
    /// All slots have a device.
    #[error("all {SLOTS} PCI slots are taken")]
    Full,
    /// The windows are full.
    #[error("no PCI memory window has {size:#x} free bytes for BAR {bar}; give the bus a greater window")]
    NoRoom {
        /// Number of the BAR.
        bar: u8,
        /// Number of bytes it needs.
        size: u64,
    },
}

type Device = Arc<Mutex<dyn PciDevice>>;

/// A BAR that decodes.
struct Decoded {
    addresses: Range<u64>,
    slot: u8,
    bar: u8,
}

#[derive(Default)]
struct Inner {
    devices: [Option<Device>; SLOTS as usize],
    /// Address ranges that placement has given away, even if the guest moved the BAR since.
    placed: Vec<(u8, Range<u64>)>,
    decoded: Vec<Decoded>,
}

/// The root bus.
pub struct PciBus {
    windows: Vec<Range<u64>>,
    inner: RwLock<Inner>,
}

fn lock(device: &Device) -> MutexGuard<'_, dyn PciDevice + 'static> {
    device.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PciBus {
    /// Makes a bus with a host bridge in slot 0 whose devices decode in these windows of guest addresses.
    pub fn new(windows: Vec<Range<u64>>) -> Arc<Self> {
        let mut inner = Inner::default();
        if let Some(first) = inner.devices.first_mut() {
            *first = Some(Arc::new(Mutex::new(HostBridge::new())));
        }
        Arc::new(Self {
            windows,
            inner: RwLock::new(inner),
        })
    }

    /// Puts a device into `slot`, or the first free one, and places its BARs. Returns the slot.
    pub fn add(&self, slot: Option<u8>, device: Device) -> Result<u8, PciError> {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let free = |number: &u8| {
            inner
                .devices
                .get(usize::from(*number))
                .is_some_and(Option::is_none)
        };
        let slot = match slot {
            Some(slot) => Some(slot).filter(free).ok_or(PciError::SlotTaken(slot))?,
            None => (0..SLOTS).find(free).ok_or(PciError::Full)?,
        };
        let mut placements = Vec::new();
        let mut guard = lock(&device);
        for bar in guard.config().bars().to_vec() {
            let taken = inner.placed.iter().chain(&placements).map(|(_, range)| range);
            let start = self.find_room(bar.size, taken.cloned().collect());
            let start = start.ok_or(PciError::NoRoom {
                bar: bar.index,
                size: bar.size,
            })?;
            placements.push((slot, start..start + bar.size));
            guard.config_mut().place_bar(bar.index, start);
        }
        inner.placed.append(&mut placements);
        Self::follow_bars(&self.windows, &mut inner.decoded, slot, &mut *guard);
        drop(guard);
        if let Some(place) = inner.devices.get_mut(usize::from(slot)) {
            *place = Some(device);
        }
        Ok(slot)
    }

    /// Takes a device off the bus. Its BARs decode no more.
    pub fn remove(&self, slot: u8) -> Option<Device> {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let device = inner.devices.get_mut(usize::from(slot))?.take()?;
        inner.placed.retain(|(owner, _)| *owner != slot);
        inner.decoded.retain(|decoded| decoded.slot != slot);
        let mut guard = lock(&device);
        for bar in guard.config().bars().to_vec() {
            guard.bar_moved(bar.index, None);
        }
        drop(guard);
        Some(device)
    }

    /// Pulls a device out, as if nobody had asked the guest: the guest sees that it is gone, and its slot and addresses stay
    /// taken until it is [removed](Self::remove).
    pub fn pull(&self, slot: u8) -> Option<Device> {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let place = inner.devices.get_mut(usize::from(slot))?.as_mut()?;
        let config = lock(place).config().clone();
        let device = std::mem::replace(place, Arc::new(Mutex::new(Ghost::new(config))));
        let mut guard = lock(&device);
        for bar in guard.config().bars().to_vec() {
            guard.bar_moved(bar.index, None);
        }
        drop(guard);
        Some(device)
    }

    /// The device in a slot.
    pub fn device(&self, slot: u8) -> Option<Device> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.devices.get(usize::from(slot))?.clone()
    }

    /// A front end for the ports 0xcf8 to 0xcff.
    pub fn config_ports(self: &Arc<Self>) -> ConfigPorts {
        ConfigPorts::new(self.clone())
    }

    /// A front end for the enhanced configuration mechanism: one MiB, as there is one bus.
    pub fn ecam(self: &Arc<Self>) -> Ecam {
        Ecam::new(self.clone())
    }

    /// A front end for the memory window that starts at `base`.
    pub fn window(self: &Arc<Self>, base: u64) -> Window {
        Window::new(self.clone(), base)
    }

    /// The memory windows.
    pub fn windows(&self) -> &[Range<u64>] {
        &self.windows
    }

    /// The guest reads configuration bytes. Where no device is, it reads all ones.
    pub fn read_config(&self, slot: u8, function: u8, offset: u16, data: &mut [u8]) {
        match self.device(slot).filter(|_| function == 0) {
            Some(device) => lock(&device).read_config(offset, data),
            None => data.fill(0xff),
        }
    }

    /// The guest writes configuration bytes.
    pub fn write_config(&self, slot: u8, function: u8, offset: u16, data: &[u8]) {
        if function != 0 {
            return;
        }
        // Exclusive, because BARs may move; configuration writes are rare.
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let Some(device) = inner.devices.get(usize::from(slot)).cloned().flatten() else {
            return;
        };
        let mut guard = lock(&device);
        guard.write_config(offset, data);
        Self::follow_bars(&self.windows, &mut inner.decoded, slot, &mut *guard);
    }

    /// The guest reads at an address in a window.
    pub fn read_memory(&self, address: u64, data: &mut [u8]) {
        match self.find_bar(address, data.len()) {
            Some((device, bar, offset)) => lock(&device).read_bar(bar, offset, data),
            None => data.fill(0xff),
        }
    }

    /// The guest writes at an address in a window.
    pub fn write_memory(&self, address: u64, data: &[u8]) {
        if let Some((device, bar, offset)) = self.find_bar(address, data.len()) {
            lock(&device).write_bar(bar, offset, data);
        }
    }

    /// Brings the decoded ranges up to date after devices were restored behind the bus' back.
    pub fn refresh(&self) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        for slot in 0..SLOTS {
            if let Some(device) = inner.devices.get(usize::from(slot)).cloned().flatten() {
                Self::follow_bars(&self.windows, &mut inner.decoded, slot, &mut *lock(&device));
            }
        }
    }

    fn find_bar(&self, address: u64, len: usize) -> Option<(Device, u8, u64)> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let decoded = inner
            .decoded
            .iter()
            .find(|decoded| decoded.addresses.contains(&address))?;
        let offset = address - decoded.addresses.start;
        let room = decoded.addresses.end - address;
        let device = inner.devices.get(usize::from(decoded.slot))?.clone()?;
        (len as u64 <= room).then_some((device, decoded.bar, offset))
    }

    /// The first aligned free range in a window. Windows and BARs are few.
    fn find_room(&self, size: u64, taken: Vec<Range<u64>>) -> Option<u64> {
        for window in &self.windows {
            let mut start = window.start.checked_next_multiple_of(size)?;
            while start.checked_add(size).is_some_and(|end| end <= window.end) {
                let end = start + size;
                match taken.iter().find(|range| range.start < end && start < range.end) {
                    None => return Some(start),
                    Some(range) => start = range.end.checked_next_multiple_of(size)?,
                }
            }
        }
        None
    }

    /// Compares where a device's BARs decode with what is noted, and tells the device what changed. A BAR that the guest
    /// put outside of all windows decodes nowhere, so that it can never cover memory or other devices.
    fn follow_bars(windows: &[Range<u64>], decoded: &mut Vec<Decoded>, slot: u8, device: &mut dyn PciDevice) {
        for bar in device.config().bars().to_vec() {
            let wanted = device.config().decoded_bar(bar.index).and_then(|start| {
                let end = start.checked_add(bar.size)?;
                let inside = windows
                    .iter()
                    .any(|window| window.start <= start && end <= window.end);
                inside.then_some(start..end)
            });
            let position = decoded
                .iter()
                .position(|entry| entry.slot == slot && entry.bar == bar.index);
            let current = position
                .and_then(|index| decoded.get(index))
                .map(|entry| entry.addresses.clone());
            if current == wanted {
                continue;
            }
            if let Some(index) = position {
                decoded.remove(index);
            }
            device.bar_moved(bar.index, wanted.as_ref().map(|range| range.start));
            if let Some(addresses) = wanted {
                decoded.push(Decoded {
                    addresses,
                    slot,
                    bar: bar.index,
                });
            }
        }
    }
}

#[cfg(test)]
#[path = "bus_tests.rs"]
mod tests;
