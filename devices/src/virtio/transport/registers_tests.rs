use super::*;
use crate::testing::{Guest, TestInterrupt, machine};
use crate::virtio::rng::{self, Rng};
use crate::virtio::worker::Virtio;

fn registers() -> (Registers, Arc<TestInterrupt>) {
    let interrupt = Arc::<TestInterrupt>::default();
    let rng = Box::new(Virtio::new(Rng::new(rng::Config::default())));
    let needs_reset = NeedsReset::default();
    (
        Registers::new(rng, machine(&Guest::new()), interrupt.clone(), needs_reset).unwrap(),
        interrupt,
    )
}

fn accept(registers: &mut Registers, features: u64) {
    for half in 0..2 {
        registers.select_driver_features(half);
        registers.accept_features((features >> (32 * half)) as u32);
    }
}

const VERSION_1: u64 = 1 << VIRTIO_F_VERSION_1;

#[test]
fn features_are_agreed_on_only_if_offered_and_modern() {
    for (features, agreed) in [
        (VERSION_1, true),
        (0, false),
        (VERSION_1 | 1 << 5, false),
        (VERSION_1 | 1 << 29, true),
    ] {
        let (mut registers, _) = registers();
        registers.write_status(status::ACKNOWLEDGE | status::DRIVER);
        accept(&mut registers, features);
        registers.write_status(status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK);
        assert_eq!(
            registers.status() & status::FEATURES_OK != 0,
            agreed,
            "{features:#x}"
        );
    }
}

#[test]
fn after_the_agreement_features_stay() {
    let (mut registers, _) = registers();
    accept(&mut registers, VERSION_1);
    registers.write_status(status::FEATURES_OK);
    accept(&mut registers, 0);
    registers.select_driver_features(1);
    assert_eq!(registers.accepted_features(), 1);
}

#[test]
fn a_driver_that_skips_the_agreement_is_told_to_reset() {
    let (mut registers, interrupt) = registers();
    registers.write_status(status::ACKNOWLEDGE | status::DRIVER | status::DRIVER_OK);
    assert!(interrupt.asked_for_reset());
    registers.write_status(0);
    assert_eq!(registers.status(), 0);
}

#[test]
fn a_queue_outside_of_memory_fails_the_activation_and_not_the_process() {
    let (mut registers, interrupt) = registers();
    accept(&mut registers, VERSION_1);
    registers.write_status(status::FEATURES_OK);
    registers.set_queue_address(QueueAddress::Descriptor, true, 0xffff_ffff);
    registers.set_queue_ready(true);
    registers.write_status(status::FEATURES_OK | status::DRIVER_OK);
    assert!(interrupt.asked_for_reset());
}

#[test]
fn an_enabled_queue_is_not_changed() {
    let (mut registers, _) = registers();
    for size in [0, 3, 128, 65] {
        registers.set_queue_size(size);
        assert_eq!(registers.queue_size(), 64);
    }
    registers.set_queue_size(32);
    registers.set_queue_address(QueueAddress::Used, false, 0x1000);
    registers.set_queue_ready(true);
    registers.set_queue_size(16);
    registers.set_queue_address(QueueAddress::Used, true, 1);
    assert_eq!(
        (
            registers.queue_size(),
            registers.queue_address(QueueAddress::Used)
        ),
        (32, 0x1000)
    );
    registers.select_queue(1);
    assert_eq!(
        (
            registers.queue_max_size(),
            registers.queue_size(),
            registers.queue_ready()
        ),
        (0, 0, false)
    );
    registers.set_queue_ready(true);
    registers.select_queue(0);
    assert!(registers.queue_ready());
}

#[test]
fn states_of_other_devices_are_refused() {
    let (mut registers, _) = registers();
    let state = registers.save();
    let queues = RegistersState {
        queues: Vec::new(),
        ..state.clone()
    };
    assert!(matches!(registers.restore(queues), Err(TransportError::State(_))));
    let features = RegistersState {
        driver_features: 1 << 3,
        ..state.clone()
    };
    assert!(matches!(
        registers.restore(features),
        Err(TransportError::State(_))
    ));
    registers.restore(state).unwrap();
}
