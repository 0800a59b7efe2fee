//! A guest that reads and writes configuration space and BAR of a virtio device as it likes.
#![no_main]

use devices::bus::BusDevice;
use devices::pci::PciBus;
use devices::testing::{Guest, TestMsi, machine};
use devices::virtio::rng::{Config, Rng};
use devices::virtio::transport::pci::VirtioPci;
use devices::virtio::worker::Virtio;
use libfuzzer_sys::fuzz_target;
use std::sync::{Arc, Mutex};

const BASE: u64 = 0xc000_0000;

fuzz_target!(|input: &[u8]| {
    let (guest, msi) = (Guest::new(), TestMsi::default());
    let bus = PciBus::new(vec![BASE..BASE + (1 << 20)]);
    let rng = Box::new(Virtio::new(Rng::new(Config::default())));
    let device = VirtioPci::new(rng, &msi, machine(&guest)).expect("a transport");
    let device = Arc::new(Mutex::new(device));
    bus.add(Some(1), device.clone()).expect("a free slot");
    let (mut ports, mut ecam, mut window) = (bus.config_ports(), bus.ecam(), bus.window(BASE));
    for step in input.chunks(12) {
        let [kind, low, high, len, data @ ..] = step else { break };
        let offset = u64::from(u16::from_le_bytes([*low, *high]));
        let mut data = data.to_vec();
        data.truncate(1 << (len & 3));
        let target: &mut dyn BusDevice = match kind & 3 {
            0 => &mut ports,
            1 => &mut ecam,
            _ => &mut window,
        };
        let offset = if kind & 3 == 0 { offset & 7 } else { offset };
        match kind & 4 {
            0 => target.write(offset, &data),
            _ => target.read(offset, &mut data),
        }
    }
    let mut device = device.lock().expect("no panic before");
    device.pause().expect("the worker lives");
    let state = device.save();
    let rng = Box::new(Virtio::new(Rng::new(Config::default())));
    let mut again = VirtioPci::new(rng, &msi, machine(&guest)).expect("a transport");
    // A queue that the guest set up wrongly may be refused; nothing worse.
    let _ = again.restore_into(state);
});
