//! Units that come and go, as the guest's ACPI methods see them.

use super::*;
use proptest::prelude::*;

struct Machine {
    hotplug: Arc<Hotplug>,
    registers: Registers,
    ejected: Arc<Mutex<Vec<u8>>>,
}

impl Machine {
    fn new() -> Self {
        let ejected = Arc::<Mutex<Vec<u8>>>::default();
        let sink = ejected.clone();
        let hotplug = Hotplug::new(Box::new(move |unit| sink.lock().unwrap().push(unit)));
        let registers = hotplug.registers();
        Self {
            hotplug,
            registers,
            ejected,
        }
    }

    fn read(&mut self, offset: u64) -> u32 {
        let mut word = [0xff; 4];
        self.registers.read(offset, &mut word);
        u32::from_le_bytes(word)
    }

    fn eject(&mut self, units: u32) -> Vec<u8> {
        self.registers.write(EJECT, &units.to_le_bytes());
        std::mem::take(&mut self.ejected.lock().unwrap())
    }
}

#[test]
fn a_unit_comes_is_asked_for_and_goes() {
    let mut machine = Machine::new();
    machine.hotplug.add(3);
    assert_eq!((machine.read(PRESENT), machine.read(ADDED)), (8, 8));
    assert_eq!(machine.read(ADDED), 0, "news are told once");
    assert_eq!(machine.read(WANTED), 0);
    machine.hotplug.ask(3);
    assert_eq!(machine.read(WANTED), 8);
    assert!(machine.hotplug.is_held(3));
    assert_eq!(machine.eject(8), [3]);
    assert_eq!(machine.read(PRESENT), 0);
    assert!(!machine.hotplug.is_held(3));
    assert!(machine.eject(8).is_empty(), "it is gone");
}

#[test]
fn what_was_taken_by_force_is_held_until_the_guest_has_cleaned_up() {
    let mut machine = Machine::new();
    machine.hotplug.hold(5);
    assert_eq!((machine.read(PRESENT), machine.read(ADDED)), (32, 0));
    machine.hotplug.take(5);
    assert_eq!((machine.read(PRESENT), machine.read(WANTED)), (0, 32));
    assert!(machine.hotplug.is_held(5));
    assert_eq!(machine.eject(32), [5]);
    assert!(!machine.hotplug.is_held(5));
}

#[test]
fn a_guest_lets_go_of_several_units_but_only_of_those_it_holds() {
    let mut machine = Machine::new();
    for unit in [0, 7, 31, 32, 255] {
        machine.hotplug.add(unit);
    }
    machine.hotplug.forget(7);
    assert_eq!(machine.eject(u32::MAX), [0, 31]);
}

#[test]
fn only_whole_words_reach_the_registers_and_a_saved_state_comes_back() {
    let mut machine = Machine::new();
    machine.hotplug.add(1);
    let mut byte = [0xff];
    machine.registers.read(ADDED, &mut byte);
    assert_eq!(byte, [0]);
    machine.registers.write(EJECT, &[2]);
    machine.registers.write(EJECT, &2u64.to_le_bytes());
    assert!(machine.hotplug.is_held(1));
    let restored = Hotplug::restore(machine.hotplug.save(), Box::new(|_| {}));
    let mut word = [0; 4];
    restored.registers().read(ADDED, &mut word);
    assert_eq!(word, [2, 0, 0, 0]);
}

proptest! {
    #[test]
    fn whatever_the_guest_does_each_unit_is_ejected_once(writes: Vec<(u8, Vec<u8>)>) {
        let mut machine = Machine::new();
        for unit in 0..32 {
            machine.hotplug.add(unit);
        }
        let mut all = Vec::new();
        for (offset, data) in writes {
            machine.registers.read(u64::from(offset), &mut data.clone());
            machine.registers.write(u64::from(offset), &data);
            all.append(&mut machine.ejected.lock().unwrap());
        }
        all.append(&mut machine.eject(u32::MAX));
        all.sort_unstable();
        prop_assert_eq!(all, (0..32).collect::<Vec<_>>());
    }
}
