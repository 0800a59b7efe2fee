//! A driver that does anything to the registers of a device, over PCI and over MMIO: half of the steps make sense, so that
//! the device is at work when the others come. Afterwards a driver that keeps to the rules must be served.
#![no_main]

use devices::bus::BusDevice;
use devices::pci::PciDevice;
use devices::testing::{DriverQueue, Guest, Part, TestInterrupt, TestMsi, machine};
use devices::virtio::rng::{Config, Rng};
use devices::virtio::transport::mmio::VirtioMmio;
use devices::virtio::transport::pci::VirtioPci;
use devices::virtio::worker::Virtio;
use libfuzzer_sys::fuzz_target;
use std::sync::Arc;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// Offset and width.
type Register = (u64, usize);

/// What a transport calls the registers that a driver needs.
struct Names {
    status: Register,
    device_features: [u64; 2],
    driver_features: [u64; 2],
    ready: Register,
    addresses: [u64; 3],
    notify: u64,
    /// Registers lie below.
    end: u64,
}

const PCI: Names = Names {
    status: (20, 1),
    device_features: [0, 4],
    driver_features: [8, 12],
    ready: (28, 2),
    addresses: [32, 40, 48],
    notify: 0x3000,
    end: 0x6000,
};

const MMIO: Names = Names {
    status: (0x70, 4),
    device_features: [0x14, 0x10],
    driver_features: [0x24, 0x20],
    ready: (0x44, 4),
    addresses: [0x80, 0x90, 0xa0],
    notify: 0x50,
    end: 0x110,
};

enum Device {
    Pci(VirtioPci),
    Mmio(VirtioMmio),
}

struct Driver {
    guest: Guest,
    device: Device,
    queue: Option<DriverQueue>,
}

impl Driver {
    fn names(&self) -> &'static Names {
        match self.device {
            Device::Pci(_) => &PCI,
            Device::Mmio(_) => &MMIO,
        }
    }

    fn read(&mut self, offset: u64, data: &mut [u8]) {
        match &mut self.device {
            Device::Pci(device) => device.read_bar(0, offset, data),
            Device::Mmio(device) => device.read(offset, data),
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        match &mut self.device {
            Device::Pci(device) => device.write_bar(0, offset, data),
            Device::Mmio(device) => device.write(offset, data),
        }
    }

    fn set(&mut self, offset: u64, value: u32) {
        self.write(offset, &value.to_le_bytes());
    }

    fn set_narrow(&mut self, (offset, width): Register, value: u8) {
        let bytes = [value, 0, 0, 0];
        self.write(offset, &bytes[..width]);
    }

    /// Up to DRIVER_OK, with the features that are not declined.
    fn drive(&mut self, declined: u64) {
        let names = self.names();
        self.set_narrow(names.status, 0);
        self.set_narrow(names.status, 3);
        let mut features = 0;
        for half in 0..2 {
            self.set(names.device_features[0], half);
            let mut offered = [0; 4];
            self.read(names.device_features[1], &mut offered);
            let accepted = u32::from_le_bytes(offered) & !(declined >> (32 * half)) as u32;
            self.set(names.driver_features[0], half);
            self.set(names.driver_features[1], accepted);
            features |= u64::from(accepted) << (32 * half);
        }
        let notify = EventFd::new(EFD_NONBLOCK).expect("an event descriptor");
        let queue = DriverQueue::with_features(&self.guest, 64, features, notify);
        self.set_narrow(names.status, 11);
        let state = queue.state.clone();
        for (offset, address) in
            names.addresses.into_iter().zip([state.descriptor_table, state.available_ring, state.used_ring])
        {
            self.set(offset, address as u32);
            self.set(offset + 4, 0);
        }
        self.set_narrow(names.ready, 1);
        self.set_narrow(names.status, 15);
        self.queue = Some(queue);
    }

    fn request(&mut self) {
        let names = self.names();
        if let Some(queue) = &mut self.queue
            && queue.taken() < 64
        {
            queue.add(&[Part::Write(64)]);
        }
        self.set(names.notify, 0);
    }
}

fuzz_target!(|input: &[u8]| {
    let Some(([pci], steps)) = input.split_first_chunk() else { return };
    let (guest, msi) = (Guest::new(), TestMsi::default());
    let rng = Box::new(Virtio::new(Rng::new(Config::default())));
    let device = match pci & 1 {
        0 => Device::Pci(VirtioPci::new(rng, &msi, machine(&guest)).expect("a transport")),
        _ => {
            let line = Arc::<TestInterrupt>::default();
            Device::Mmio(VirtioMmio::new(rng, 0xd000_0000, line, machine(&guest)).expect("a transport"))
        }
    };
    let mut driver = Driver { guest, device, queue: None };
    for step in steps.chunks(8).take(64) {
        let [kind, low, high, data @ ..] = step else { break };
        let names = driver.names();
        let offset = u64::from(u16::from_le_bytes([*low, *high]));
        match kind % 8 {
            0 => driver.drive(u64::from(*low) << 28),
            1 => driver.request(),
            2 => driver.set_narrow(names.status, 0),
            3 => driver.read(offset % names.end, &mut data.to_vec()),
            // Registers of the common part, in their own width and others.
            4 | 5 => driver.write(offset % 0x110, data),
            6 => driver.set(offset % 0x110 & !3, u32::from(*kind)),
            _ => driver.write(offset % names.end, data),
        }
    }
    driver.drive(0);
    driver.request();
    let mut queue = driver.queue.take().expect("a queue");
    assert!(TestInterrupt::default().wait(|| queue.poll().is_some()), "a good driver is not served");
});
