use super::*;

#[derive(Default)]
struct Scratch([u8; 16]);

impl BusDevice for Scratch {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        let offset = offset as usize;
        data.copy_from_slice(&self.0[offset..offset + data.len()]);
    }
    fn write(&mut self, offset: u64, data: &[u8]) {
        let offset = offset as usize;
        self.0[offset..offset + data.len()].copy_from_slice(data);
    }
}

fn scratch() -> Arc<Mutex<dyn BusDevice>> {
    Arc::new(Mutex::new(Scratch::default()))
}

#[test]
fn accesses_reach_the_device_that_owns_the_address() {
    let bus = Bus::new();
    bus.insert(0x1000, 16, scratch()).unwrap();
    bus.insert(0x1010, 16, scratch()).unwrap();
    assert!(bus.write(0x1012, &[7, 8]));
    let mut data = [0; 2];
    assert!(bus.read(0x1012, &mut data));
    assert_eq!(data, [7, 8]);
    assert!(bus.read(0x1002, &mut data));
    assert_eq!(data, [0, 0]);
}

#[test]
fn unmapped_and_crossing_accesses_read_all_ones_and_write_nothing() {
    let bus = Bus::new();
    bus.insert(0x1000, 16, scratch()).unwrap();
    for address in [0, 0xfff, 0x100f, 0x1010, u64::MAX] {
        let mut data = [0; 4];
        assert!(!bus.read(address, &mut data), "{address:#x}");
        assert_eq!(data, [0xff; 4]);
        assert!(!bus.write(address, &data));
    }
}

#[test]
fn overlapping_and_impossible_ranges_are_refused() {
    let bus = Bus::new();
    bus.insert(0x1000, 0x1000, scratch()).unwrap();
    for (base, size) in [(0x1000, 1), (0x1fff, 2), (0xfff, 2), (0, 0x10000), (0x1800, 0x10)] {
        assert!(
            matches!(bus.insert(base, size, scratch()), Err(BusError::Overlap { .. })),
            "{base:#x}"
        );
    }
    for (base, size) in [(0, 0), (u64::MAX, 2)] {
        assert!(matches!(
            bus.insert(base, size, scratch()),
            Err(BusError::InvalidRange { .. })
        ));
    }
    bus.insert(0x2000, 1, scratch()).unwrap();
    bus.insert(u64::MAX, 1, scratch()).unwrap();
    assert!(bus.remove(0x1000));
    assert!(!bus.remove(0x1000));
    bus.insert(0xfff, 2, scratch()).unwrap();
}
