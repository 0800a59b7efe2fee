use super::super::config::{Bar, Config, Identity};
use super::*;
use crate::bus::BusDevice;

const WINDOW: Range<u64> = 0xc000_0000..0xc010_0000;
const HIGH: Range<u64> = 0x10_0000_0000..0x11_0000_0000;

/// Where a BAR was moved, in order.
type Moves = Arc<Mutex<Vec<Option<u64>>>>;

/// A device with one BAR of memory that remembers where it was moved.
struct Memory {
    config: Config,
    bytes: Vec<u8>,
    moves: Moves,
}

impl Memory {
    fn new(size: u64) -> (Arc<Mutex<Self>>, Moves) {
        let mut config = Config::new(Identity {
            vendor: 1,
            device: 2,
            revision: 3,
            class: [5, 0, 0],
            subsystem_vendor: 0,
            subsystem: 0,
        });
        config.add_bar(Bar { index: 2, size }).unwrap();
        let moves = Arc::<Mutex<Vec<_>>>::default();
        let memory = Self {
            config,
            bytes: vec![0; size.min(4096) as usize],
            moves: moves.clone(),
        };
        (Arc::new(Mutex::new(memory)), moves)
    }
}

impl PciDevice for Memory {
    fn config(&self) -> &Config {
        &self.config
    }
    fn config_mut(&mut self) -> &mut Config {
        &mut self.config
    }
    fn read_bar(&mut self, bar: u8, offset: u64, data: &mut [u8]) {
        assert_eq!(bar, 2);
        data.copy_from_slice(&self.bytes[offset as usize..][..data.len()]);
    }
    fn write_bar(&mut self, bar: u8, offset: u64, data: &[u8]) {
        assert_eq!(bar, 2);
        self.bytes[offset as usize..][..data.len()].copy_from_slice(data);
    }
    fn bar_moved(&mut self, _bar: u8, address: Option<u64>) {
        self.moves.lock().unwrap().push(address);
    }
}

fn config_read(bus: &PciBus, slot: u8, offset: u16) -> u32 {
    let mut data = [0; 4];
    bus.read_config(slot, 0, offset, &mut data);
    u32::from_le_bytes(data)
}

#[test]
fn a_device_decodes_where_the_bus_placed_it_once_the_guest_enables_it() {
    let bus = PciBus::new(vec![WINDOW]);
    let (device, moves) = Memory::new(4096);
    let slot = bus.add(None, device).unwrap();
    assert_eq!(slot, 1);
    assert_eq!(config_read(&bus, slot, 0x18), WINDOW.start as u32 | 4);
    let mut data = [0; 4];
    bus.read_memory(WINDOW.start, &mut data);
    assert_eq!(data, [0xff; 4]);
    bus.write_config(slot, 0, 4, &[2, 0]);
    bus.write_memory(WINDOW.start + 8, &[1, 2, 3, 4]);
    bus.read_memory(WINDOW.start + 8, &mut data);
    assert_eq!(data, [1, 2, 3, 4]);
    // Over the end.
    bus.read_memory(WINDOW.start + 4094, &mut data);
    assert_eq!(data, [0xff; 4]);
    assert_eq!(*moves.lock().unwrap(), [Some(WINDOW.start)]);
}

#[test]
fn a_moved_bar_decodes_at_its_new_place_only_and_never_outside_of_the_windows() {
    let bus = PciBus::new(vec![WINDOW, HIGH]);
    let (device, moves) = Memory::new(4096);
    let slot = bus.add(Some(7), device).unwrap();
    bus.write_config(slot, 0, 4, &[2, 0]);
    bus.write_memory(WINDOW.start, &[9; 4]);
    // To the other window, one half after the other.
    bus.write_config(slot, 0, 0x18, &0x5000_0000u32.to_le_bytes());
    bus.write_config(slot, 0, 0x1c, &0x10u32.to_le_bytes());
    let new = 0x10_5000_0000;
    let mut data = [0; 4];
    bus.read_memory(new, &mut data);
    assert_eq!(data, [9; 4]);
    bus.read_memory(WINDOW.start, &mut data);
    assert_eq!(data, [0xff; 4]);
    // Over guest memory.
    bus.write_config(slot, 0, 0x1c, &[0; 4]);
    bus.write_config(slot, 0, 0x18, &0x1000u32.to_le_bytes());
    bus.write_config(slot, 0, 4, &[0, 0]);
    assert_eq!(
        *moves.lock().unwrap(),
        [Some(WINDOW.start), None, Some(new), None]
    );
}

#[test]
fn bars_are_placed_side_by_side_until_the_windows_are_full() {
    let bus = PciBus::new(std::iter::once(0x8_0800..0x9_0000).collect());
    let mut starts = Vec::new();
    loop {
        let (device, _) = Memory::new(0x4000);
        match bus.add(None, device.clone()) {
            Ok(_) => starts.push(device.lock().unwrap().config.bar_address(2).unwrap()),
            Err(error) => {
                assert_eq!(error, PciError::NoRoom { bar: 2, size: 0x4000 });
                break;
            }
        }
    }
    assert_eq!(starts, [0x8_4000, 0x8_8000, 0x8_c000]);
    // A place that is given back is used again.
    assert!(bus.remove(2).is_some());
    let (device, _) = Memory::new(0x4000);
    assert_eq!(bus.add(None, device.clone()).unwrap(), 2);
    assert_eq!(device.lock().unwrap().config.bar_address(2), Some(0x8_8000));
}

#[test]
fn slots_are_given_once() {
    let bus = PciBus::new(vec![HIGH]);
    let add = |slot| bus.add(slot, Memory::new(4096).0);
    assert_eq!(add(Some(0)), Err(PciError::SlotTaken(0)));
    assert_eq!(add(Some(32)), Err(PciError::SlotTaken(32)));
    assert_eq!(add(Some(5)), Ok(5));
    assert_eq!(add(Some(5)), Err(PciError::SlotTaken(5)));
    for _ in 0..30 {
        add(None).unwrap();
    }
    assert_eq!(add(None), Err(PciError::Full));
}

#[test]
fn a_removed_device_is_gone() {
    let bus = PciBus::new(vec![WINDOW]);
    let (device, moves) = Memory::new(4096);
    let slot = bus.add(None, device).unwrap();
    bus.write_config(slot, 0, 4, &[2, 0]);
    assert!(bus.remove(slot).is_some());
    assert!(bus.remove(slot).is_none());
    assert_eq!(config_read(&bus, slot, 0), u32::MAX);
    let mut data = [0];
    bus.read_memory(WINDOW.start, &mut data);
    assert_eq!(
        (data, moves.lock().unwrap().last().copied()),
        ([0xff], Some(None))
    );
}

#[test]
fn both_configuration_mechanisms_see_the_same_devices() {
    let bus = PciBus::new(vec![WINDOW]);
    bus.add(Some(3), Memory::new(4096).0).unwrap();
    let (mut ports, mut ecam) = (bus.config_ports(), bus.ecam());
    let mut by_ports = |slot: u32, offset: u32| {
        ports.write(0, &(1 << 31 | slot << 11 | offset & 0xfc).to_le_bytes());
        let mut data = [0; 2];
        ports.read(4 + u64::from(offset & 3), &mut data);
        u16::from_le_bytes(data)
    };
    let mut by_ecam = |slot: u64, offset: u64| {
        let mut data = [0; 2];
        ecam.read(slot << 15 | offset, &mut data);
        u16::from_le_bytes(data)
    };
    for (slot, offset, value) in [
        (0, 0, 0x8086),
        (0, 2, 0x0d57),
        (3, 0, 1),
        (3, 2, 2),
        (4, 0, 0xffff),
    ] {
        assert_eq!(by_ports(slot, offset), value);
        assert_eq!(by_ecam(slot.into(), offset.into()), value);
    }
    // Other functions and the extended space are empty, other buses are not there.
    assert_eq!((by_ecam(3, 1 << 12), by_ecam(3, 0x100)), (0xffff, 0));
    ports.write(0, &(1u32 << 31 | 1 << 16).to_le_bytes());
    let mut data = [0; 4];
    ports.read(4, &mut data);
    assert_eq!(data, [0xff; 4]);
    // Without the enable bit the data port is dead; narrow writes do not reach the address register.
    ports.write(0, &0u32.to_le_bytes());
    ports.write(0, &[0xff]);
    ports.read(4, &mut data);
    assert_eq!(data, [0xff; 4]);
    ports.read(0, &mut data);
    assert_eq!(data, [0; 4]);
}

#[test]
fn what_is_left_of_a_device_that_was_pulled_out_reads_zero_until_it_is_removed() {
    let bus = PciBus::new(vec![WINDOW]);
    let (memory, moves) = Memory::new(0x1000);
    memory.lock().unwrap().bytes[0] = 7;
    let slot = bus.add(None, memory).unwrap();
    bus.write_config(slot, 0, 4, &[2, 0]);
    let mut data = [0; 1];
    bus.read_memory(WINDOW.start, &mut data);
    assert_eq!(data, [7]);
    assert!(bus.pull(slot).is_some());
    assert_eq!(
        moves.lock().unwrap().last(),
        Some(&None),
        "the device decodes no more"
    );
    assert_eq!(config_read(&bus, slot, 0), 0xffff_ffff);
    bus.write_config(slot, 0, 4, &[0, 0]);
    bus.write_memory(WINDOW.start, &[1]);
    bus.read_memory(WINDOW.start, &mut data);
    assert_eq!(data, [0]);
    let (other, _) = Memory::new(0x1000);
    assert_eq!(bus.add(Some(slot), other), Err(PciError::SlotTaken(slot)));
    assert!(bus.remove(slot).is_some());
    bus.read_memory(WINDOW.start, &mut data);
    assert_eq!(data, [0xff]);
    assert!(bus.pull(slot).is_none());
}
