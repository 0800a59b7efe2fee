use super::*;
use crate::testing::{DriverQueue, Guest, Notifications, Part, TestInterrupt, machine};
use crate::virtio::rng::{self, Rng};
use crate::virtio::transport::registers::status;
use crate::virtio::worker::Virtio;
use proptest::prelude::*;
use virtio_bindings::virtio_config::VIRTIO_F_RING_PACKED;
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

const PACKED: u64 = 1 << VIRTIO_F_RING_PACKED;
const EVENT_IDX: u64 = 1 << VIRTIO_RING_F_EVENT_IDX;
const BASE: u64 = 0xd000_0000;

struct Setup {
    guest: Guest,
    line: Arc<TestInterrupt>,
    mmio: VirtioMmio,
}

fn setup() -> Setup {
    let (guest, line) = (Guest::new(), Arc::<TestInterrupt>::default());
    let rng = Box::new(Virtio::new(Rng::new(rng::Config::default())));
    let mmio = VirtioMmio::new(rng, BASE, line.clone(), machine(&guest)).unwrap();
    Setup { guest, line, mmio }
}

fn read(mmio: &mut VirtioMmio, offset: u64) -> u32 {
    let mut data = [0; 4];
    mmio.read(offset, &mut data);
    u32::from_le_bytes(data)
}

fn write(mmio: &mut VirtioMmio, offset: u64, value: u32) {
    mmio.write(offset, &value.to_le_bytes());
}

/// What a driver of all features does (§3.1.1) up to DRIVER_OK. Returns its queue.
fn drive(setup: &mut Setup) -> DriverQueue {
    drive_without(setup, 0)
}

/// The same without some features.
fn drive_without(setup: &mut Setup, declined: u64) -> DriverQueue {
    let mmio = &mut setup.mmio;
    write(mmio, register::STATUS, 0);
    write(
        mmio,
        register::STATUS,
        u32::from(status::ACKNOWLEDGE | status::DRIVER),
    );
    let mut accepted = 0;
    for half in 0..2 {
        write(mmio, register::DEVICE_FEATURES_SELECT, half);
        let features = read(mmio, register::DEVICE_FEATURES) & !(declined >> (32 * half)) as u32;
        write(mmio, register::DRIVER_FEATURES_SELECT, half);
        write(mmio, register::DRIVER_FEATURES, features);
        accepted |= u64::from(features) << (32 * half);
    }
    let negotiated = status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK;
    write(mmio, register::STATUS, u32::from(negotiated));
    assert_eq!(read(mmio, register::STATUS), u32::from(negotiated));
    write(mmio, register::QUEUE_SELECT, 0);
    assert_eq!(read(mmio, register::QUEUE_READY), 0);
    assert_eq!(read(mmio, register::QUEUE_SIZE_MAX), 64);
    // The driver's own end is never kicked by its descriptor, but by the register.
    let queue = DriverQueue::with_features(&setup.guest, 16, accepted, EventFd::new(EFD_NONBLOCK).unwrap());
    write(mmio, register::QUEUE_SIZE, 16);
    for (offset, address) in [
        (register::QUEUE_DESCRIPTOR, queue.state.descriptor_table),
        (register::QUEUE_DRIVER, queue.state.available_ring),
        (register::QUEUE_DEVICE, queue.state.used_ring),
    ] {
        write(mmio, offset, address as u32);
        write(mmio, offset + 4, (address >> 32) as u32);
    }
    write(mmio, register::QUEUE_READY, 1);
    write(mmio, register::STATUS, u32::from(negotiated | status::DRIVER_OK));
    assert_eq!(
        read(mmio, register::STATUS),
        u32::from(negotiated | status::DRIVER_OK)
    );
    queue
}

fn ask(setup: &mut Setup, queue: &mut DriverQueue) -> u32 {
    queue.add(&[Part::Write(32)]);
    queue.want_interrupt();
    write(&mut setup.mmio, register::QUEUE_NOTIFY, 0);
    let mut used = None;
    assert!(setup.line.wait(|| {
        used = queue.poll();
        used.is_some()
    }));
    used.unwrap().1
}

#[test]
fn a_driver_finds_the_device_and_gets_its_work_done() {
    let mut setup = setup();
    assert_eq!(
        read(&mut setup.mmio, register::MAGIC),
        u32::from_le_bytes(*b"virt")
    );
    assert_eq!(read(&mut setup.mmio, register::VERSION), 2);
    assert_eq!(read(&mut setup.mmio, register::DEVICE_ID), 4);
    for declined in [0, PACKED, EVENT_IDX, PACKED | EVENT_IDX] {
        let mut queue = drive_without(&mut setup, declined);
        assert_eq!(ask(&mut setup, &mut queue), 32, "without {declined:#x}");
        assert!(
            setup
                .line
                .wait(|| setup.mmio.interrupt.status.load(Ordering::SeqCst) != 0)
        );
        assert_eq!(read(&mut setup.mmio, register::INTERRUPT_STATUS), INTERRUPT_QUEUE);
        write(&mut setup.mmio, register::INTERRUPT_ACK, INTERRUPT_QUEUE);
        assert_eq!(read(&mut setup.mmio, register::INTERRUPT_STATUS), 0);
    }
}

#[test]
fn queue_notifications_are_registered_with_the_machine_while_the_device_exists() {
    let guest = Guest::new();
    let notifications = Arc::<Notifications>::default();
    let machine = Machine {
        notify: notifications.clone(),
        ..machine(&guest)
    };
    let rng = Box::new(Virtio::new(Rng::new(rng::Config::default())));
    let mmio = VirtioMmio::new(rng, BASE, Arc::<TestInterrupt>::default(), machine).unwrap();
    assert_eq!(notifications.registered(), [(BASE + 0x50, Some(0))]);
    drop(mmio);
    assert_eq!(notifications.registered(), []);
}

#[test]
fn a_saved_device_goes_on_under_its_driver() {
    for declined in [0, PACKED] {
        goes_on_after_a_restore(declined);
    }
}

fn goes_on_after_a_restore(declined: u64) {
    let mut setup = setup();
    let mut queue = drive_without(&mut setup, declined);
    assert_eq!(ask(&mut setup, &mut queue), 32);
    setup.mmio.pause().unwrap();
    let device = setup.mmio.device().save().unwrap();
    let json = serde_json::to_string(&setup.mmio.save()).unwrap();
    let state: State = serde_json::from_str(&json).unwrap();
    let rng = Rng::restore(serde_json::from_value(device).unwrap());
    setup.mmio = VirtioMmio::restore(
        state,
        Box::new(Virtio::new(rng)),
        BASE,
        setup.line.clone(),
        machine(&setup.guest),
    )
    .unwrap();
    assert_eq!(ask(&mut setup, &mut queue), 32);
}

#[test]
fn accesses_of_other_widths_do_nothing() {
    let mut setup = setup();
    let mut data = [0; 2];
    setup.mmio.read(register::MAGIC, &mut data);
    assert_eq!(data, [0; 2]);
    setup.mmio.write(register::STATUS, &[1]);
    assert_eq!(read(&mut setup.mmio, register::STATUS), 0);
    let mut config = [0xff; 8];
    setup.mmio.read(register::CONFIG, &mut config);
    assert_eq!(config, [0; 8]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Any sequence of register accesses: no panic, and after a reset a driver gets its work done.
    #[test]
    fn a_driver_that_writes_noise_harms_only_itself(
        accesses in proptest::collection::vec((0..0x140u64, prop_oneof![0..16u32, any::<u32>()]), 0..60),
    ) {
        let mut setup = setup();
        for (offset, value) in accesses {
            write(&mut setup.mmio, offset & !3, value);
            read(&mut setup.mmio, offset);
        }
        let mut queue = drive(&mut setup);
        prop_assert_eq!(ask(&mut setup, &mut queue), 32);
    }
}
