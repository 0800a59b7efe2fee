//! Numbers of processors.

use super::*;
use proptest::prelude::*;

#[test]
fn flat_machines_count_apic_ids_up() {
    let topology = Topology::flat(5);
    assert_eq!((topology.processors(), topology.socket_shift()), (5, 3));
    assert_eq!(
        (0..5).map(|index| topology.apic_id(index)).collect::<Vec<_>>(),
        [0, 1, 2, 3, 4]
    );
}

#[test]
fn levels_that_are_no_power_of_two_leave_gaps() {
    let topology = Topology {
        sockets: 2,
        cores: 3,
        threads: 2,
    };
    let ids: Vec<_> = (0..12).map(|index| topology.apic_id(index)).collect();
    assert_eq!(ids, [0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13]);
    assert_eq!(topology.place(7), (1, 0, 1));
}

proptest! {
    #[test]
    fn apic_ids_ascend_and_tell_the_levels_apart(threads in 1u8..=8, cores in 1u8..=32, sockets in 1u8..=32) {
        let cores = cores.min(32 / threads);
        let sockets = sockets.min(32 / threads / cores);
        let topology = Topology { sockets, cores, threads };
        let mut last = None;
        for index in 0..topology.processors() as u8 {
            let id = topology.apic_id(index);
            prop_assert!(last.is_none_or(|last| last < id));
            last = Some(id);
            let (socket, core, thread) = topology.place(index);
            prop_assert_eq!(u32::from(id) >> topology.socket_shift(), u32::from(socket));
            prop_assert_eq!(u32::from(id) >> topology.thread_bits() & ((1 << topology.core_bits()) - 1), u32::from(core));
            prop_assert_eq!(u32::from(id) & ((1 << topology.thread_bits()) - 1), u32::from(thread));
        }
    }
}
