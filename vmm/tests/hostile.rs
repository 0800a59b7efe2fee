//! A guest that misbehaves on purpose against its virtio devices, over PCI and over MMIO: the VMM lives, takes no more
//! threads, descriptors, memory or log lines than before, and each time serves a driver that keeps to the rules again.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fs;
use std::io::Write;

use common::disk_driver::{AVAILABLE, DATA, DESCRIPTORS, USED, disk, read_request};
use common::payload::Payload;
use common::vm::{Spec, Vm, eventually, has_kvm};
use serde_json::json;
use vmm::exit::ExitReason;

/// Where the guest counts rounds.
const COUNTER: u64 = 0x38_0000;
/// A table of descriptors beside the queue's.
const TABLE: u64 = 0x30_6000;
const RINGS: [u64; 3] = [DESCRIPTORS, AVAILABLE, USED];
/// Places where no queue and no buffer may be: nothing at all, configuration space, registers of the device itself over
/// PCI and over MMIO, the local APIC, the end of memory, the end of everything.
const NOWHERE: [u64; 8] = [
    0,
    0xe000_0000,
    0xc000_0000,
    0xe800_0000,
    0xfee0_0000,
    (16 << 20) - 16,
    1 << 45,
    u64::MAX - 15,
];

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// VIRTIO_F_VERSION_1 and VIRTIO_F_RING_PACKED in the upper half of the features.
const MODERN: u32 = 1;
const PACKED: u32 = 1 << 2 | MODERN;

/// A device's registers.
#[derive(Clone, Copy)]
enum Device {
    Pci { config: u64, bar: u64 },
    Mmio { base: u64 },
}

impl Device {
    /// The n-th device, counted from zero.
    fn nth(pci: bool, number: u64) -> Self {
        match pci {
            true => Self::Pci {
                config: 0xe000_0000 + ((number + 1) << 15),
                bar: 0xc000_0000 + (number << 15),
            },
            false => Self::Mmio {
                base: 0xe800_0000 + (number << 12),
            },
        }
    }

    fn status(self, payload: Payload, status: u8) -> Payload {
        match self {
            Self::Pci { bar, .. } => payload.store8(bar + 20, status),
            Self::Mmio { base } => payload.store32(base + 0x70, status.into()),
        }
    }

    /// From a reset to an agreement.
    fn agree(self, payload: Payload, features: [u32; 2]) -> Payload {
        let mut payload = match self {
            // The device may use the bus.
            Self::Pci { config, .. } => payload.store16(config + 4, 6),
            Self::Mmio { .. } => payload,
        };
        payload = self.status(self.status(payload, 0), 3);
        for (half, features) in (0..).zip(features) {
            payload = match self {
                Self::Pci { bar, .. } => payload.store32(bar + 8, half).store32(bar + 12, features),
                Self::Mmio { base } => payload.store32(base + 0x24, half).store32(base + 0x20, features),
            };
        }
        self.status(payload, 0xb)
    }

    fn queue(self, payload: Payload, index: u16, size: u16, parts: [u64; 3]) -> Payload {
        let [table, available, used] = parts;
        match self {
            Self::Pci { bar, .. } => payload
                .store16(bar + 22, index)
                .store16(bar + 24, size)
                .store64(bar + 32, table)
                .store64(bar + 40, available)
                .store64(bar + 48, used)
                .store16(bar + 28, 1),
            Self::Mmio { base } => payload
                .store32(base + 0x30, index.into())
                .store32(base + 0x38, size.into())
                .store64(base + 0x80, table)
                .store64(base + 0x90, available)
                .store64(base + 0xa0, used)
                .store32(base + 0x44, 1),
        }
    }

    /// All the way to a driver that is ready, with one queue in these places.
    fn set_up(self, payload: Payload, features: u32, index: u16, parts: [u64; 3]) -> Payload {
        let payload = self.agree(payload, [0, features]);
        // Rings as they are in the beginning.
        let payload = payload.store32(AVAILABLE, 0).store32(USED, 0);
        let payload = self.queue(payload, index, 8, parts);
        self.status(payload, 0xf)
    }

    fn notify(self, payload: Payload, index: u16) -> Payload {
        match self {
            Self::Pci { bar, .. } => payload.store16(bar + 0x3000 + 4 * u64::from(index), index),
            Self::Mmio { base } => payload.store32(base + 0x50, index.into()),
        }
    }

    /// Waits until the device says that it needs a reset.
    fn wait_for_needs_reset(self, payload: Payload) -> Payload {
        match self {
            Self::Pci { bar, .. } => payload.wait_bits8(bar + 20, 64),
            Self::Mmio { base } => payload.wait_bits32(base + 0x70, 64),
        }
    }

    /// Reads a sector as a good driver does, and prints what it says.
    fn read_well(self, payload: Payload) -> Payload {
        let payload = self.set_up(payload.store32(DATA, 0), MODERN, 0, RINGS);
        self.notify(read_request(payload, 2), 0)
            .wait16(USED + 2, 1)
            .print_memory(DATA, 4)
    }
}

fn descriptor(payload: Payload, at: u64, address: u64, len: u32, words: [u16; 2]) -> Payload {
    payload
        .store64(at, address)
        .store32(at + 8, len)
        .store16(at + 12, words[0])
        .store16(at + 14, words[1])
}

/// Makes the chain that begins with the first descriptor available.
fn publish(payload: Payload) -> Payload {
    payload.store16(AVAILABLE + 4, 0).store16(AVAILABLE + 2, 1)
}

/// One way to misbehave.
type Case = (&'static str, fn(Device, Payload) -> Payload);

/// What a queue of whatever device may find; each breaks it.
const BROKEN_RINGS: [Case; 6] = [
    ("a loop", |_, payload| {
        publish(descriptor(payload, DESCRIPTORS, DATA, 16, [NEXT, 0]))
    }),
    ("4 GiB and more", |_, payload| {
        let payload = descriptor(payload, DESCRIPTORS, DATA, u32::MAX, [NEXT, 1]);
        publish(descriptor(payload, DESCRIPTORS + 16, DATA, u32::MAX, [0, 0]))
    }),
    ("readable behind writable", |_, payload| {
        let payload = descriptor(payload, DESCRIPTORS, DATA, 1, [NEXT | WRITE, 1]);
        publish(descriptor(payload, DESCRIPTORS + 16, DATA, 1, [0, 0]))
    }),
    ("a successor that does not exist", |_, payload| {
        publish(descriptor(payload, DESCRIPTORS, DATA, 1, [NEXT, 0xffff]))
    }),
    ("a table in itself", |_, payload| {
        let payload = descriptor(payload, TABLE, TABLE, 16, [INDIRECT, 0]);
        publish(descriptor(payload, DESCRIPTORS, TABLE, 16, [INDIRECT, 0]))
    }),
    ("more chains than entries", |_, payload| {
        payload.store16(AVAILABLE + 2, 0x8000)
    }),
];

/// What a disk must survive beside that. Each case makes its own queue.
const HOSTILE_DRIVERS: [Case; 10] = [
    ("requests of all lengths in all places", |device, mut payload| {
        for place in NOWHERE {
            for len in [0, 1, u32::MAX - 20] {
                payload = read_request(device.set_up(payload, MODERN, 0, RINGS), u64::MAX / 512);
                payload = descriptor(payload, DESCRIPTORS + 16, place, len, [NEXT | WRITE, 2]);
                payload = device.notify(payload, 0).wait16(USED + 2, 1);
            }
        }
        payload
    }),
    ("queues in all places", |device, mut payload| {
        for place in NOWHERE.into_iter().chain([DESCRIPTORS + 1]) {
            for part in 0..3 {
                let mut parts = RINGS;
                parts[part] = place;
                for features in [MODERN, PACKED] {
                    payload = device.set_up(payload, features, 0, parts);
                    payload = device.notify(payload, 0);
                }
            }
        }
        payload
    }),
    ("resets while requests run", |device, payload| {
        payload.repeat(COUNTER, 60, |payload| {
            let payload = read_request(device.set_up(payload, MODERN, 0, RINGS), 2);
            device.status(device.notify(payload, 0), 0)
        })
    }),
    ("a flood of notifications", |device, payload| {
        let payload = device.set_up(payload, MODERN, 0, RINGS);
        payload.repeat(COUNTER, 1000, |mut payload| {
            for index in [0, 1, 63] {
                payload = device.notify(payload, index);
            }
            payload
        })
    }),
    ("a ring that is full for ever", |device, payload| {
        let payload = read_request(device.set_up(payload, MODERN, 0, RINGS), 2);
        payload.repeat(COUNTER, 500, |payload| {
            // add word [index], 8; the entries all name the same chain
            device.notify(payload.at(AVAILABLE + 2).raw(&[0x66, 0x83, 0x03, 8]), 0)
        })
    }),
    ("wrap counters that turn back and forth", |device, payload| {
        let payload = device.set_up(payload, PACKED, 0, RINGS);
        payload.repeat(COUNTER, 200, |mut payload| {
            for (index, flags) in (0..8).zip([0x80, 0x8000, 0x8080, 0, 0x81, 0x8001, 0x84, 0x8086]) {
                payload = descriptor(payload, DESCRIPTORS + 16 * index, DATA, 16, [7, flags]);
            }
            device.notify(payload, 0)
        })
    }),
    ("steps in the wrong order", |device, payload| {
        payload.repeat(COUNTER, 50, |mut payload| {
            for status in [0, 4, 0xff, 0, 8, 15, 0x80, 0, 0x40, 7] {
                payload = device.status(payload, status);
            }
            payload = device.agree(payload, [u32::MAX, u32::MAX]);
            payload = device.agree(payload, [0, 0]);
            device.status(device.queue(payload, 0xffff, 0xffff, RINGS), 15)
        })
    }),
    ("queues of impossible sizes", |device, mut payload| {
        for size in [0, 3, 0x101, 0x8000, 0xffff] {
            for features in [MODERN, PACKED] {
                payload = device.agree(payload, [0, features]);
                payload = device.status(device.queue(payload, 0, size, RINGS), 15);
                payload = device.notify(payload, 0);
            }
        }
        payload
    }),
    ("registers of all kinds", |device, payload| match device {
        // Messages to anywhere, and the device's own configuration.
        Device::Pci { bar, .. } => payload.repeat(COUNTER, 20, |mut payload| {
            for page in 1..6 {
                for offset in [0, 4, 8, 12, 16, 28, 0xffc] {
                    payload = payload.store32(bar + 0x1000 * page + offset, 0xfee0_1234);
                }
            }
            payload
        }),
        Device::Mmio { base } => payload.repeat(COUNTER, 20, |mut payload| {
            for register in (0..0x120).step_by(4) {
                payload = payload.store32(base + register, 0xfee0_1234);
            }
            payload
        }),
    }),
    (
        "a device that is switched off and on",
        |device, payload| match device {
            Device::Pci { config, .. } => payload.repeat(COUNTER, 50, |payload| {
                let payload = read_request(device.set_up(payload, MODERN, 0, RINGS), 2);
                let payload = device.notify(payload, 0).store16(config + 4, 0);
                // The registers go elsewhere and come back.
                payload
                    .store32(config + 0x10, 0xffff_ffff)
                    .store32(config + 0x10, 0xc000_0000)
                    .store16(config + 4, 6)
            }),
            Device::Mmio { .. } => payload,
        },
    ),
];

/// What the process has taken of the host.
#[derive(Debug)]
struct Footprint {
    threads: usize,
    descriptors: usize,
    anonymous_kib: u64,
}

fn footprint(vm: &Vm) -> Footprint {
    let process = format!("/proc/{}", vm.process.id());
    let count = |name: &str| fs::read_dir(format!("{process}/{name}")).unwrap().count();
    let status = fs::read_to_string(format!("{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    Footprint {
        threads: count("task"),
        descriptors: count("fd"),
        anonymous_kib: line.split_whitespace().nth(1).unwrap().parse().unwrap(),
    }
}

/// Runs the program of a hostile guest. It prints what the disk says in between.
fn run(pci: bool, program: Payload) -> String {
    // The driver of the disk is there in the beginning as in the end, so that the worker's thread is, too.
    let disk_device = Device::nth(pci, 0);
    let payload = disk_device
        .read_well(Payload::new())
        .print("begin\n")
        .wait_for_input();
    let payload = payload.then(&program);
    let payload = disk_device.read_well(payload).print("end\n").wait_for_input();
    let mut spec = Spec::new(&payload.power_off()).set("transport", if pci { "pci" } else { "mmio" }.into());
    let path = spec.file("disk", &disk("fine"));
    spec = spec
        .set("disks", json!([{"id": "root", "path": path}]))
        .set("vsock", json!({"cid": 3, "socket": "vsock.sock"}))
        .set("rng", true.into())
        .set("console", true.into());
    let mut vm = spec.start();
    let mut console = vm.console();
    vm.wait_for("finebegin\n");
    let before = footprint(&vm);
    console.write_all(b"x").unwrap();
    vm.wait_for("fineend\n");
    // Threads of devices that were reset may still be on their way out.
    eventually("the threads of reset devices to end", || {
        (footprint(&vm).threads <= before.threads).then_some(())
    });
    let after = footprint(&vm);
    assert!(
        after.descriptors <= before.descriptors,
        "descriptors leak: {before:?} {after:?}"
    );
    assert!(
        after.anonymous_kib < before.anonymous_kib + 2048,
        "memory grows: {before:?} {after:?}"
    );
    console.write_all(b"x").unwrap();
    let ended = vm.end();
    let reason = ended.report.as_ref().map(|report| report.reason);
    assert_eq!(reason, Some(ExitReason::Poweroff), "{ended:?}");
    assert!(
        ended.stderr.len() < 16 << 10,
        "{} bytes of log: {}",
        ended.stderr.len(),
        ended.stderr
    );
    ended.console
}

#[test]
fn a_disk_survives_its_driver_and_works_after_each_attack() {
    if !has_kvm() {
        return;
    }
    for pci in [true, false] {
        let device = Device::nth(pci, 0);
        let mut program = Payload::new();
        let mut wanted = "finebegin\n".to_owned();
        for (name, case) in HOSTILE_DRIVERS {
            program = device.read_well(case(device, program)).print(name).print("\n");
            wanted += &format!("fine{name}\n");
        }
        assert_eq!(run(pci, program), wanted + "fineend\n");
    }
}

#[test]
fn each_queue_of_each_device_survives_broken_rings() {
    if !has_kvm() {
        return;
    }
    for pci in [true, false] {
        let mut program = Payload::new();
        let mut wanted = "finebegin\n".to_owned();
        // Disk, socket, entropy and console, with the queue that the device empties by itself.
        for (number, queues, emptied) in [(0, 1, 0), (1, 3, 1), (2, 1, 0), (3, 2, 1)] {
            let device = Device::nth(pci, number);
            for (name, case) in BROKEN_RINGS {
                for index in 0..queues {
                    program = case(device, device.set_up(program, MODERN, index, RINGS));
                    program = device.notify(program, index);
                    program = program.repeat(COUNTER, 20, |payload| device.notify(payload, index));
                    if index == emptied {
                        program = device.wait_for_needs_reset(program);
                    }
                }
                program = program.print(name).print("\n");
                wanted += &format!("{name}\n");
            }
            program = device.status(program, 0);
        }
        assert_eq!(run(pci, program), wanted + "fineend\n");
    }
}
