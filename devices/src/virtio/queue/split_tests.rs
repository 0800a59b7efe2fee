use crate::testing::Part;
use crate::virtio::queue::MAX_CHAIN_LEN;
use crate::virtio::queue::tests::{Setup, assert_broken, setup};

#[test]
fn malformed_chains_break_the_queue_once_and_for_all() {
    let loops = |setup: &mut Setup| {
        setup.guest.write(
            setup.driver.state.descriptor_table,
            &[0, 16, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0],
        );
        setup.driver.publish(0);
    };
    let wrong_order = |setup: &mut Setup| {
        setup.driver.add_raw(&[(4096, 1, true), (4096, 1, false)]);
    };
    let bad_head = |setup: &mut Setup| setup.driver.publish(8);
    let too_many = |setup: &mut Setup| (0..9).for_each(|_| setup.driver.publish(0));
    let too_long = |setup: &mut Setup| {
        setup.driver.add_raw(&[(4096, u32::MAX, true), (4096, 2, true)]);
    };
    let nested = |setup: &mut Setup| {
        // An indirect table whose first entry is one, too.
        let table = setup.driver.state.descriptor_table;
        let entry = [&table.to_le_bytes()[..], &16u32.to_le_bytes(), &[4, 0, 0, 0]].concat();
        setup.guest.write(table, &entry);
        setup.driver.publish(0);
    };
    let many = |setup: &mut Setup| {
        setup.driver.set_indirect(true);
        setup.driver.add_raw(&vec![(4096, 1, true); MAX_CHAIN_LEN + 1]);
    };
    let empty_table = |setup: &mut Setup| {
        setup.driver.set_indirect(true);
        setup.driver.add(&[Part::Write(1)]);
        // The table has no entries.
        setup
            .guest
            .write(setup.driver.state.descriptor_table + 8, &[0; 4]);
    };
    type Break<'a> = &'a dyn Fn(&mut Setup);
    let breaks: [(&str, Break); 8] = [
        ("loops", &loops),
        ("wrong order", &wrong_order),
        ("bad head", &bad_head),
        ("too many", &too_many),
        ("too long", &too_long),
        ("nested", &nested),
        ("many", &many),
        ("empty table", &empty_table),
    ];
    for (case, breaks) in breaks {
        let mut setup = setup(8, 0);
        breaks(&mut setup);
        assert_broken(&mut setup, case);
    }
}
