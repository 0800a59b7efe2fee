use super::*;
use crate::bus::BusDevice;
use crate::interrupt::MsiVector;
use crate::pci::PciBus;
use crate::testing::{DriverQueue, Guest, Notifications, Part, TestMsi, machine};
use crate::virtio::rng::{self, Rng};
use crate::virtio::transport::registers::status;
use crate::virtio::worker::Virtio;
use proptest::prelude::*;
use std::sync::Mutex;
use virtio_bindings::virtio_config::VIRTIO_F_RING_PACKED;
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

const PACKED: u64 = 1 << VIRTIO_F_RING_PACKED;
const EVENT_IDX: u64 = 1 << VIRTIO_RING_F_EVENT_IDX;
const WINDOW: std::ops::Range<u64> = 0xc000_0000..0xc100_0000;

/// A guest that drives an entropy device over the bus.
struct Driver {
    guest: Guest,
    bus: Arc<PciBus>,
    device: Arc<Mutex<VirtioPci>>,
    msi: TestMsi,
    notifications: Arc<Notifications>,
    slot: u8,
    bar: u64,
}

fn transport(guest: &Guest, msi: &TestMsi, notifications: &Arc<Notifications>, rng: Rng) -> VirtioPci {
    let machine = Machine {
        notify: notifications.clone(),
        ..machine(guest)
    };
    VirtioPci::new(Box::new(Virtio::new(rng)), msi, machine).unwrap()
}

fn driver() -> Driver {
    let (guest, msi, notifications) = (Guest::new(), TestMsi::default(), Arc::default());
    let bus = PciBus::new(vec![WINDOW]);
    let rng = Rng::new(rng::Config::default());
    let device = Arc::new(Mutex::new(transport(&guest, &msi, &notifications, rng)));
    let slot = bus.add(None, device.clone()).unwrap();
    bus.write_config(slot, 0, 4, &[6, 0]);
    Driver {
        guest,
        bus,
        device,
        msi,
        notifications,
        slot,
        bar: WINDOW.start,
    }
}

impl Driver {
    fn read<const N: usize>(&self, offset: u64) -> [u8; N] {
        let mut data = [0; N];
        self.bus.read_memory(self.bar + offset, &mut data);
        data
    }

    fn read_u32(&self, offset: u64) -> u32 {
        u32::from_le_bytes(self.read(offset))
    }

    fn read_u16(&self, offset: u64) -> u16 {
        u16::from_le_bytes(self.read(offset))
    }

    fn status(&self) -> u8 {
        self.read::<1>(common::STATUS)[0]
    }

    fn write(&self, offset: u64, data: &[u8]) {
        self.bus.write_memory(self.bar + offset, data);
    }

    fn config(&self, offset: u16) -> u32 {
        let mut data = [0; 4];
        self.bus.read_config(self.slot, 0, offset, &mut data);
        u32::from_le_bytes(data)
    }

    /// The capabilities as (id, offset).
    fn capabilities(&self) -> Vec<(u8, u16)> {
        let mut list = Vec::new();
        let mut next = self.config(0x34) as u8;
        while next != 0 && list.len() < 50 {
            let [id, following, ..] = self.config(next.into()).to_le_bytes();
            list.push((id, next.into()));
            next = following;
        }
        list
    }

    /// Up to DRIVER_OK, with MSI-X and all features. Returns the driver's queue.
    fn drive(&self) -> DriverQueue {
        self.drive_without(0)
    }

    /// The same without some features.
    fn drive_without(&self, declined: u64) -> DriverQueue {
        self.write(common::STATUS, &[0]);
        assert_eq!(self.status(), 0);
        self.write(common::STATUS, &[status::ACKNOWLEDGE | status::DRIVER]);
        let mut accepted = 0;
        for half in 0..2u32 {
            self.write(common::DEVICE_FEATURE_SELECT, &half.to_le_bytes());
            let features = self.read_u32(common::DEVICE_FEATURE) & !(declined >> (32 * half)) as u32;
            self.write(common::DRIVER_FEATURE_SELECT, &half.to_le_bytes());
            self.write(common::DRIVER_FEATURE, &features.to_le_bytes());
            accepted |= u64::from(features) << (32 * half);
        }
        let negotiated = status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK;
        self.write(common::STATUS, &[negotiated]);
        assert_eq!(self.status(), negotiated);
        // Vector 1 for the queue.
        let capability = self
            .capabilities()
            .into_iter()
            .find(|(id, _)| *id == 0x11)
            .unwrap()
            .1;
        self.bus.write_config(self.slot, 0, capability + 2, &[0, 0x80]);
        self.write(MSIX_TABLE + ENTRY_SIZE, &0xfee0_0000u64.to_le_bytes());
        self.write(MSIX_TABLE + ENTRY_SIZE + 8, &0x55u32.to_le_bytes());
        self.write(MSIX_TABLE + ENTRY_SIZE + 12, &0u32.to_le_bytes());
        self.write(common::QUEUE_SELECT, &[0, 0]);
        self.write(common::QUEUE_VECTOR, &[1, 0]);
        assert_eq!(self.read_u16(common::QUEUE_VECTOR), 1);
        let queue =
            DriverQueue::with_features(&self.guest, 64, accepted, EventFd::new(EFD_NONBLOCK).unwrap());
        self.write(
            common::QUEUE_DESCRIPTOR,
            &queue.state.descriptor_table.to_le_bytes(),
        );
        self.write(
            common::QUEUE_DRIVER,
            &(queue.state.available_ring as u32).to_le_bytes(),
        );
        self.write(common::QUEUE_DRIVER + 4, &[0; 4]);
        self.write(common::QUEUE_DEVICE, &queue.state.used_ring.to_le_bytes());
        self.write(common::QUEUE_ENABLE, &[1, 0]);
        self.write(common::STATUS, &[negotiated | status::DRIVER_OK]);
        assert_eq!(self.status(), negotiated | status::DRIVER_OK);
        queue
    }

    fn ask(&self, queue: &mut DriverQueue) -> u32 {
        // The last one is that of the queue, also after a restore.
        let last = self.msi.vectors.lock().unwrap().len() - 1;
        let vector = self.msi.vector(last).unwrap();
        let before = vector.interrupt().count();
        queue.add(&[Part::Write(32)]);
        queue.want_interrupt();
        self.write(NOTIFY, &[0, 0]);
        let mut used = None;
        assert!(vector.interrupt().wait(|| {
            used = used.take().or_else(|| queue.poll());
            used.is_some() && vector.interrupt().count() > before
        }));
        used.unwrap().1
    }
}

#[test]
fn a_driver_finds_the_device_and_gets_its_work_done_by_message() {
    let driver = driver();
    assert_eq!(driver.config(0), 0x1044_1af4);
    let kinds: Vec<_> = driver
        .capabilities()
        .into_iter()
        .filter(|(id, _)| *id == 9)
        .collect();
    let mut kinds: Vec<_> = kinds
        .iter()
        .map(|(_, offset)| driver.config(*offset).to_le_bytes()[3])
        .collect();
    kinds.sort_unstable();
    assert_eq!(kinds, [1, 2, 3, 4, 5]);
    assert_eq!(driver.read_u16(common::QUEUE_COUNT), 1);
    for declined in [0, PACKED, EVENT_IDX, PACKED | EVENT_IDX] {
        let mut queue = driver.drive_without(declined);
        assert_eq!(driver.ask(&mut queue), 32);
        assert_eq!(
            driver.msi.vector(1).unwrap().message(),
            Some((0xfee0_0000, 0x55, false))
        );
    }
    assert_eq!(driver.read::<1>(ISR), [0]);
}

#[test]
fn without_messages_the_interrupt_status_tells_and_reading_clears_it() {
    let driver = driver();
    let mut queue = driver.drive();
    driver.write(common::QUEUE_VECTOR, &[0xff, 0xff]);
    queue.add(&[Part::Write(8)]);
    queue.want_interrupt();
    driver.write(NOTIFY, &[0, 0]);
    let vector = driver.msi.vector(1).unwrap();
    assert!(vector.interrupt().wait(|| driver.read::<1>(ISR) == [1]));
    assert_eq!((driver.read::<1>(ISR), queue.poll().unwrap().1), ([0], 8));
}

#[test]
fn the_descriptor_of_a_queues_interrupts_follows_its_vector() {
    use crate::virtio::device::Interrupt;
    let driver = driver();
    driver.drive();
    let signal = || driver.device.lock().unwrap().interrupt.queue_eventfd(0);
    for vector in [1, 0, 1] {
        driver.write(common::QUEUE_VECTOR, &[vector, 0]);
        signal().unwrap().write(1).unwrap();
        let vector = driver.msi.vector(vector.into()).unwrap();
        assert_eq!(vector.eventfd().unwrap().read().unwrap(), 1);
    }
    driver.write(common::QUEUE_VECTOR, &[0xff, 0xff]);
    assert!(signal().is_none());
}

#[test]
fn vectors_that_do_not_exist_read_back_as_none() {
    let driver = driver();
    for offset in [common::CONFIG_VECTOR, common::QUEUE_VECTOR] {
        driver.write(offset, &[2, 0]);
        assert_eq!(driver.read_u16(offset), NO_VECTOR);
        driver.write(offset, &[1, 0]);
        assert_eq!(driver.read_u16(offset), 1);
    }
    driver.write(common::STATUS, &[0]);
    assert_eq!(driver.read_u16(common::CONFIG_VECTOR), NO_VECTOR);
}

#[test]
fn queue_notifications_follow_the_bar() {
    let mut driver = driver();
    assert_eq!(driver.notifications.registered(), [(WINDOW.start + NOTIFY, None)]);
    driver.bar = WINDOW.start + 0x10_0000;
    driver
        .bus
        .write_config(driver.slot, 0, 0x10, &(driver.bar as u32).to_le_bytes());
    assert_eq!(driver.notifications.registered(), [(driver.bar + NOTIFY, None)]);
    let mut queue = driver.drive();
    assert_eq!(driver.ask(&mut queue), 32);
    driver.bus.write_config(driver.slot, 0, 4, &[0, 0]);
    assert_eq!(driver.notifications.registered(), []);
}

#[test]
fn the_bar_is_reached_by_configuration_space_too() {
    let driver = driver();
    let offsets = driver
        .capabilities()
        .into_iter()
        .filter(|(id, _)| *id == 9)
        .map(|(_, offset)| offset);
    let access = offsets
        .into_iter()
        .find(|offset| driver.config(*offset).to_le_bytes()[3] == 5)
        .unwrap();
    let set = |offset: u64, len: u32| {
        driver.bus.write_config(driver.slot, 0, access + 4, &[0]);
        driver
            .bus
            .write_config(driver.slot, 0, access + 8, &(offset as u32).to_le_bytes());
        driver
            .bus
            .write_config(driver.slot, 0, access + 12, &len.to_le_bytes());
    };
    set(common::STATUS, 1);
    driver
        .bus
        .write_config(driver.slot, 0, access + 16, &[3, 0, 0, 0]);
    assert_eq!(driver.status(), 3);
    assert_eq!(driver.config(access + 16) & 0xff, 3);
    set(common::DEVICE_FEATURE, 4);
    assert_eq!(
        driver.config(access + 16),
        driver.read_u32(common::DEVICE_FEATURE)
    );
    // Windows that are not allowed show nothing new and write nothing.
    for (offset, len) in [
        (common::STATUS, 3),
        (1, 4),
        (u64::from(u32::MAX), 1),
        (BAR_SIZE, 4),
    ] {
        set(offset, len);
        driver.bus.write_config(driver.slot, 0, access + 16, &[0; 4]);
    }
    assert_eq!(driver.status(), 3);
}

#[test]
fn a_saved_device_goes_on_under_its_driver() {
    for declined in [0, PACKED] {
        goes_on_after_a_restore(declined);
    }
}

fn goes_on_after_a_restore(declined: u64) {
    let mut driver = driver();
    let mut queue = driver.drive_without(declined);
    assert_eq!(driver.ask(&mut queue), 32);
    let mut device = driver.device.lock().unwrap();
    device.pause().unwrap();
    let saved = (
        device.device().save().unwrap(),
        serde_json::to_string(&device.save()).unwrap(),
    );
    drop(device);
    let rng = Rng::restore(serde_json::from_value(saved.0).unwrap());
    let device = transport(&driver.guest, &driver.msi, &driver.notifications, rng);
    driver.bus = PciBus::new(vec![WINDOW]);
    driver.device = Arc::new(Mutex::new(device));
    driver.bus.add(Some(driver.slot), driver.device.clone()).unwrap();
    let state = serde_json::from_str(&saved.1).unwrap();
    driver.device.lock().unwrap().restore_into(state).unwrap();
    driver.bus.refresh();
    assert_eq!(driver.ask(&mut queue), 32);
}

#[test]
fn the_state_of_another_device_is_refused() {
    let driver = driver();
    let mut device = driver.device.lock().unwrap();
    let state = device.save();
    for wrong in [
        State {
            config: vec![0; 256],
            ..state.clone()
        },
        State {
            queue_vectors: vec![1, 2],
            ..state.clone()
        },
        State {
            msix: MsixState {
                entries: Vec::new(),
                pending: Vec::new(),
            },
            ..state.clone()
        },
    ] {
        assert!(matches!(
            device.restore_into(wrong),
            Err(TransportError::State(_))
        ));
    }
    device.restore_into(state).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Noise in configuration space and BAR: no panic, and after a reset a driver gets its work done.
    #[test]
    fn a_driver_that_writes_noise_harms_only_itself(
        accesses in proptest::collection::vec(
            (any::<bool>(), prop_oneof![0..64u64, 0..BAR_SIZE], proptest::collection::vec(any::<u8>(), 1..9)), 0..60),
    ) {
        let driver = driver();
        let mut ecam = driver.bus.ecam();
        for (config, offset, mut data) in accesses {
            if config {
                let offset = (u64::from(driver.slot) << 15) | (offset % 256);
                ecam.write(offset, &data);
                ecam.read(offset, &mut data);
            } else {
                driver.write(offset, &data);
                driver.bus.read_memory(driver.bar + offset, &mut data);
            }
        }
        driver.bus.write_config(driver.slot, 0, 4, &[0, 0]);
        driver.bus.write_config(driver.slot, 0, 0x10, &(driver.bar as u32).to_le_bytes());
        driver.bus.write_config(driver.slot, 0, 0x14, &[0; 4]);
        driver.bus.write_config(driver.slot, 0, 4, &[6, 0]);
        let mut queue = driver.drive();
        prop_assert_eq!(driver.ask(&mut queue), 32);
    }
}
