//! What drivers may rely on whatever the transport: each test runs over PCI and over MMIO.

use super::Machine;
use super::mmio::VirtioMmio;
use super::pci::VirtioPci;
use super::registers::status::{ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, NEEDS_RESET};
use crate::bus::BusDevice;
use crate::metrics::Metrics;
use crate::pci::PciDevice;
use crate::testing::{DriverQueue, Guest, PATIENCE, Part, TestInterrupt, TestMsi, machine};
use crate::virtio::config_space::ConfigSpace;
use crate::virtio::device::DeviceType;
use crate::virtio::update::UpdateResult;
use crate::virtio::worker::{Backend, Io, ThreadHook, Virtio};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// A device of two queues. It answers the second queue's requests at once and keeps those of the first until the second
/// has one, or until it stops.
struct Keeper {
    space: Arc<ConfigSpace>,
    starts: Arc<AtomicU32>,
    kept: Vec<u16>,
    /// Does not stop as long as this is set.
    stuck: Arc<AtomicBool>,
}

impl Keeper {
    fn release(&mut self, io: &mut Io) {
        if let Some(queue) = io.queues.get_mut(0) {
            self.kept.drain(..).for_each(|head| queue.add_used(head, 1));
            queue.signal();
        }
    }
}

impl Backend for Keeper {
    type State = ();

    fn device_type(&self) -> DeviceType {
        DeviceType::Rng
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![16; 2]
    }

    fn config(&self) -> Arc<ConfigSpace> {
        self.space.clone()
    }

    fn metrics(&self) -> Arc<dyn Metrics> {
        Arc::new(())
    }

    fn start(&mut self, _io: &mut Io) -> std::io::Result<()> {
        self.starts.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn queue_ready(&mut self, queue: usize, io: &mut Io) {
        if queue == 1 {
            io.serve(1, 16, |_, _| 1);
            return self.release(io);
        }
        if let Some(queue) = io.queues.get_mut(0) {
            while let Some(chain) = queue.pop() {
                self.kept.push(chain.head);
            }
            queue.enable_notification();
        }
    }

    fn quiesce(&mut self, io: &mut Io) {
        while self.stuck.load(Ordering::SeqCst) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        self.release(io);
    }

    fn update(&mut self, _update: Value, io: Option<&mut Io>) -> UpdateResult {
        self.space.update(0, b"new");
        if let Some(io) = io {
            io.interrupt.config();
        }
        Ok(Value::Null)
    }

    fn save(&self) {}
}

/// A register as both transports have it.
#[derive(Clone, Copy)]
enum Register {
    Status,
    DeviceFeatures(u32),
    DriverFeatures(u32),
    QueueSelect,
    QueueReady,
    /// Low half of one of the three addresses.
    QueueAddress(u64),
    Notify(u16),
    Generation,
}

/// A transport with the device, and its interrupts.
trait Transport {
    fn read(&mut self, register: Register) -> u32;
    fn write(&mut self, register: Register, value: u32);
    fn config(&mut self) -> [u8; 3];
    fn update(&mut self);
    /// Interrupts for changes of the configuration so far.
    fn config_interrupts(&self) -> u64;
}

struct Pci {
    transport: VirtioPci,
    msi: TestMsi,
}

impl Pci {
    /// Offset and width in the common configuration (§4.1.4.3).
    fn place(&mut self, register: Register) -> (u64, usize) {
        let select = |pci: &mut Self, offset, half: u32| {
            pci.transport.write_bar(0, offset, &half.to_le_bytes());
        };
        match register {
            Register::Status => (20, 1),
            Register::DeviceFeatures(half) => {
                select(self, 0, half);
                (4, 4)
            }
            Register::DriverFeatures(half) => {
                select(self, 8, half);
                (12, 4)
            }
            Register::QueueSelect => (22, 2),
            Register::QueueReady => (28, 2),
            Register::QueueAddress(which) => (32 + 8 * which, 4),
            Register::Notify(queue) => (0x3000 + 4 * u64::from(queue), 2),
            Register::Generation => (21, 1),
        }
    }
}

impl Transport for Pci {
    fn read(&mut self, register: Register) -> u32 {
        let (offset, width) = self.place(register);
        let mut value = [0; 4];
        self.transport.read_bar(0, offset, &mut value[..width]);
        u32::from_le_bytes(value)
    }

    fn write(&mut self, register: Register, value: u32) {
        let (offset, width) = self.place(register);
        self.transport.write_bar(0, offset, &value.to_le_bytes()[..width]);
        // A reset forgets the vector of configuration changes, and the driver sets it again.
        self.transport.write_bar(0, 16, &[0, 0]);
    }

    fn config(&mut self) -> [u8; 3] {
        let mut bytes = [0; 3];
        self.transport.read_bar(0, 0x2000, &mut bytes);
        bytes
    }

    fn update(&mut self) {
        self.transport.update(json!(null)).wait(PATIENCE).unwrap();
    }

    fn config_interrupts(&self) -> u64 {
        self.msi.vector(0).unwrap().interrupt().count()
    }
}

struct Mmio {
    transport: VirtioMmio,
    seen: u64,
}

impl Mmio {
    /// Offset of a register (§4.2.2).
    fn place(&mut self, register: Register) -> u64 {
        let select = |mmio: &mut Self, offset, half: u32| mmio.transport.write(offset, &half.to_le_bytes());
        match register {
            Register::Status => 0x70,
            Register::DeviceFeatures(half) => {
                select(self, 0x14, half);
                0x10
            }
            Register::DriverFeatures(half) => {
                select(self, 0x24, half);
                0x20
            }
            Register::QueueSelect => 0x30,
            Register::QueueReady => 0x44,
            Register::QueueAddress(which) => 0x80 + 0x10 * which,
            Register::Notify(_) => 0x50,
            Register::Generation => 0xfc,
        }
    }

    fn word(&mut self, offset: u64) -> u32 {
        let mut value = [0; 4];
        self.transport.read(offset, &mut value);
        u32::from_le_bytes(value)
    }
}

impl Transport for Mmio {
    fn read(&mut self, register: Register) -> u32 {
        let offset = self.place(register);
        self.word(offset)
    }

    fn write(&mut self, register: Register, value: u32) {
        let offset = self.place(register);
        let value = match register {
            Register::Notify(queue) => u32::from(queue),
            _ => value,
        };
        // A reset takes the causes back; what was there before still counts.
        self.seen += u64::from(self.word(0x60) >> 1 & 1);
        self.transport.write(0x64, &2u32.to_le_bytes());
        self.transport.write(offset, &value.to_le_bytes());
    }

    fn config(&mut self) -> [u8; 3] {
        let mut bytes = [0; 3];
        self.transport.read(0x100, &mut bytes);
        bytes
    }

    fn update(&mut self) {
        self.transport.update(json!(null)).wait(PATIENCE).unwrap();
    }

    fn config_interrupts(&self) -> u64 {
        let pending = self.transport.save().interrupt_status >> 1 & 1;
        self.seen + u64::from(pending)
    }
}

struct Setup {
    guest: Guest,
    transport: Box<dyn Transport>,
    starts: Arc<AtomicU32>,
    /// Ends of workers' threads.
    threads: Arc<()>,
    stuck: Arc<AtomicBool>,
}

/// The same device behind each transport.
fn setups() -> [Setup; 2] {
    [true, false].map(|pci| {
        let guest = Guest::new();
        let (starts, threads) = (Arc::<AtomicU32>::default(), Arc::new(()));
        let stuck = Arc::<AtomicBool>::default();
        let keeper = Keeper {
            space: Arc::new(ConfigSpace::new(b"old".to_vec())),
            starts: starts.clone(),
            kept: Vec::new(),
            stuck: stuck.clone(),
        };
        thread_local! {
            static ALIVE: std::cell::RefCell<Option<Arc<()>>> = const { std::cell::RefCell::new(None) };
        }
        let alive = threads.clone();
        // Each thread keeps one more reference until it ends.
        let thread_hook: ThreadHook = Arc::new(move |_| {
            ALIVE.with_borrow_mut(|mine| *mine = Some(alive.clone()));
            Ok(())
        });
        let machine = Machine {
            thread_hook,
            ..machine(&guest)
        };
        let device = Box::new(Virtio::new(keeper));
        let transport: Box<dyn Transport> = match pci {
            true => {
                let msi = TestMsi::default();
                let mut transport = VirtioPci::new(device, &msi, machine).unwrap();
                enable_messages(&mut transport);
                Box::new(Pci { transport, msi })
            }
            false => {
                let line = Arc::<TestInterrupt>::default();
                let transport = VirtioMmio::new(device, 0xd000_0000, line, machine).unwrap();
                Box::new(Mmio { transport, seen: 0 })
            }
        };
        Setup {
            guest,
            transport,
            starts,
            threads,
            stuck,
        }
    })
}

/// MSI-X on, with an address for the first vector.
fn enable_messages(transport: &mut VirtioPci) {
    let mut next = [0];
    transport.read_config(0x34, &mut next);
    loop {
        let offset = u16::from(next[0]);
        let mut header = [0; 2];
        transport.read_config(offset, &mut header);
        if header[0] == 0x11 {
            transport.write_config(offset + 2, &[0, 0x80]);
            break;
        }
        assert_ne!(header[1], 0, "no MSI-X");
        next = [header[1]];
    }
    transport.write_bar(0, 0x4000, &0xfee0_0000_u64.to_le_bytes());
    transport.write_bar(0, 0x400c, &[0; 4]);
}

impl Setup {
    fn read(&mut self, register: Register) -> u32 {
        self.transport.read(register)
    }

    fn write(&mut self, register: Register, value: u32) {
        self.transport.write(register, value);
    }

    fn status(&mut self) -> u8 {
        self.read(Register::Status) as u8
    }

    fn set_status(&mut self, status: u8) {
        self.write(Register::Status, u32::from(status));
    }

    /// Resets the device and agrees on all features. Returns them.
    fn negotiate(&mut self) -> u64 {
        self.set_status(0);
        assert_eq!(self.status(), 0);
        self.set_status(ACKNOWLEDGE | DRIVER);
        let mut features = 0;
        for half in 0..2 {
            let offered = self.read(Register::DeviceFeatures(half));
            self.write(Register::DriverFeatures(half), offered);
            features |= u64::from(offered) << (32 * half);
        }
        self.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK);
        assert_ne!(self.status() & FEATURES_OK, 0);
        features
    }

    fn enable(&mut self, index: u32, features: u64) -> DriverQueue {
        let notify = EventFd::new(EFD_NONBLOCK).unwrap();
        let queue = DriverQueue::with_features(&self.guest, 16, features, notify);
        let state = &queue.state;
        self.write(Register::QueueSelect, index);
        for (which, address) in (0..).zip([state.descriptor_table, state.available_ring, state.used_ring]) {
            self.write(Register::QueueAddress(which), address as u32);
        }
        self.write(Register::QueueReady, 1);
        queue
    }

    /// All the way to DRIVER_OK. Returns the queues.
    fn drive(&mut self) -> [DriverQueue; 2] {
        let features = self.negotiate();
        let queues = [0, 1].map(|index| self.enable(index, features));
        self.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
        assert_eq!(self.status(), ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
        queues
    }

    /// Has the device answer a request at once.
    fn ask(&mut self, queues: &mut [DriverQueue; 2]) {
        queues[1].add(&[Part::Write(4)]);
        self.write(Register::Notify(1), 1);
        wait(|| queues[1].poll().is_some());
    }
}

fn wait(mut done: impl FnMut() -> bool) {
    assert!(TestInterrupt::default().wait(&mut done));
}

#[test]
fn a_second_driver_ok_changes_nothing() {
    for mut setup in setups() {
        let mut queues = setup.drive();
        for _ in 0..3 {
            setup.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
            setup.set_status(DRIVER_OK);
        }
        setup.ask(&mut queues);
        assert_eq!(setup.starts.load(Ordering::SeqCst), 1);
        assert_eq!(setup.status(), ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    }
}

#[test]
fn a_reset_with_requests_in_flight_ends_them_and_leaves_memory_alone() {
    for mut setup in setups() {
        for _ in 0..3 {
            let mut queues = setup.drive();
            for _ in 0..3 {
                queues[0].add(&[Part::Write(4)]);
            }
            setup.write(Register::Notify(0), 0);
            setup.set_status(0);
            // However many it had taken, it gave back before the reset was over.
            while queues[0].poll().is_some() {}
            queues[0].add(&[Part::Write(4)]);
            setup.write(Register::Notify(0), 0);
            assert_eq!(queues[0].poll(), None, "the device works after its reset");
            assert_eq!(setup.status(), 0);
        }
        let mut queues = setup.drive();
        setup.ask(&mut queues);
    }
}

#[test]
fn resets_at_any_moment_leave_no_thread_behind() {
    for mut setup in setups() {
        for round in 0..200 {
            let features = setup.negotiate();
            if round % 5 > 0 {
                let mut queue = setup.enable(round % 2, features);
                queue.add(&[Part::Write(4)]);
            }
            if round % 5 > 1 {
                setup.set_status(FEATURES_OK | DRIVER_OK);
            }
            if round % 5 > 2 {
                setup.write(Register::Notify((round % 2) as u16), round % 2);
            }
            if round % 5 > 3 {
                wait(|| setup.starts.load(Ordering::SeqCst) > 0);
            }
        }
        setup.set_status(0);
        wait(|| Arc::strong_count(&setup.threads) == 2);
        let mut queues = setup.drive();
        setup.ask(&mut queues);
        assert_eq!(Arc::strong_count(&setup.threads), 3);
    }
}

#[test]
fn a_reset_that_lasts_is_seen_by_its_driver_and_ends() {
    let [mut pci, mut mmio] = setups();
    pci.drive();
    pci.stuck.store(true, Ordering::SeqCst);
    pci.set_status(0);
    for _ in 0..3 {
        // Until it is done there is nothing to be set up.
        pci.set_status(ACKNOWLEDGE);
        assert_eq!(pci.status(), ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    }
    pci.stuck.store(false, Ordering::SeqCst);
    wait(|| pci.status() == 0);
    // Drivers of the other transport do not look.
    mmio.drive();
    mmio.stuck.store(true, Ordering::SeqCst);
    let stuck = mmio.stuck.clone();
    let end = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        stuck.store(false, Ordering::SeqCst);
    });
    mmio.set_status(0);
    assert!(!mmio.stuck.load(Ordering::SeqCst));
    end.join().unwrap();
    for mut setup in [pci, mmio] {
        let mut queues = setup.drive();
        setup.ask(&mut queues);
    }
}

#[test]
fn a_queue_is_not_enabled_once_the_device_works() {
    for mut setup in setups() {
        let features = setup.negotiate();
        let mut first = setup.enable(1, features);
        setup.set_status(FEATURES_OK | DRIVER_OK);
        let mut late = setup.enable(0, features);
        assert_eq!(setup.read(Register::QueueReady), 0);
        late.add(&[Part::Write(4)]);
        setup.write(Register::Notify(0), 0);
        first.add(&[Part::Write(4)]);
        setup.write(Register::Notify(1), 1);
        wait(|| first.poll().is_some());
        assert_eq!((late.poll(), setup.status() & NEEDS_RESET), (None, 0));
        // Nor is one that is enabled disabled.
        setup.write(Register::QueueSelect, 1);
        setup.write(Register::QueueReady, 0);
        assert_eq!(setup.read(Register::QueueReady), 1);
    }
}

#[test]
fn features_are_agreed_on_before_the_device_works_or_it_needs_a_reset() {
    for mut setup in setups() {
        setup.set_status(0);
        setup.set_status(ACKNOWLEDGE | DRIVER);
        let before = setup.transport.config_interrupts();
        setup.set_status(ACKNOWLEDGE | DRIVER | DRIVER_OK);
        assert_ne!(setup.status() & NEEDS_RESET, 0);
        assert!(setup.transport.config_interrupts() > before);
        // Too late.
        setup.set_status(ACKNOWLEDGE | DRIVER | DRIVER_OK | FEATURES_OK);
        assert_eq!(setup.starts.load(Ordering::SeqCst), 0);
        // What was refused may be tried again with less.
        setup.set_status(0);
        setup.write(Register::DriverFeatures(0), u32::MAX);
        setup.write(Register::DriverFeatures(1), 1);
        setup.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK);
        assert_eq!(setup.status() & FEATURES_OK, 0);
        setup.write(Register::DriverFeatures(0), 0);
        setup.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK);
        assert_ne!(setup.status() & FEATURES_OK, 0);
        // Once agreed on they stay.
        setup.write(Register::DriverFeatures(1), 0);
        setup.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
        assert_eq!(setup.status() & NEEDS_RESET, 0);
        wait(|| setup.starts.load(Ordering::SeqCst) == 1);
    }
}

#[test]
fn a_change_of_the_configuration_is_told_and_counted() {
    for mut setup in setups() {
        // Before there is a driver nobody is told, but the generation counts.
        let first = setup.read(Register::Generation);
        setup.transport.update();
        let second = setup.read(Register::Generation);
        assert_ne!(first, second);
        let mut queues = setup.drive();
        setup.ask(&mut queues);
        let before = setup.transport.config_interrupts();
        assert_eq!(&setup.transport.config(), b"new");
        setup.transport.update();
        assert_ne!(setup.read(Register::Generation), second);
        assert_eq!(setup.transport.config_interrupts(), before + 1);
    }
}

#[test]
fn a_broken_queue_is_told_once_and_a_reset_mends_it() {
    for mut setup in setups() {
        let mut queues = setup.drive();
        setup.ask(&mut queues);
        let before = setup.transport.config_interrupts();
        queues[0].add_raw(&[(4096, 1, true), (4096, 1, false)]);
        for _ in 0..50 {
            setup.write(Register::Notify(0), 0);
        }
        wait(|| setup.status() & NEEDS_RESET != 0);
        // The other queue still works, and its answer comes after all of the notifications.
        setup.ask(&mut queues);
        assert_eq!(setup.transport.config_interrupts(), before + 1);
        let mut queues = setup.drive();
        setup.ask(&mut queues);
        assert_eq!(setup.transport.config_interrupts(), before + 1);
    }
}

#[test]
fn notifications_of_no_queue_and_before_the_driver_is_ready_are_ignored() {
    for mut setup in setups() {
        let features = setup.negotiate();
        let mut queue = setup.enable(1, features);
        for index in [0, 1, 2, 1000] {
            setup.write(Register::Notify(index), u32::from(index));
        }
        queue.add(&[Part::Write(4)]);
        assert_eq!(queue.poll(), None);
        setup.set_status(FEATURES_OK | DRIVER_OK);
        // What was there at the start is found without a notification.
        wait(|| queue.poll().is_some());
    }
}
