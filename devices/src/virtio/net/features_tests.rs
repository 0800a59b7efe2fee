use super::*;

#[test]
fn what_the_host_knows_is_offered() {
    let all = offered(Offloads(!0), 4);
    for bit in [HOST_USO, GUEST_USO6, MQ, CTRL_GUEST_OFFLOADS, GUEST_TSO4, CSUM] {
        assert!(has(all, bit), "{bit}");
    }
    let none = offered(Offloads(0), 1);
    assert_eq!(none, ALWAYS.iter().fold(0, |all, bit| all | 1 << bit));
    // What older hosts know has no UDP segmentation.
    let old = offered(Offloads(0x1f), 1);
    assert!(has(old, HOST_UFO) && !has(old, HOST_USO) && !has(old, GUEST_USO4));
}

#[test]
fn offloads_follow_the_features() {
    assert_eq!(offloads(1 << GUEST_TSO4), Offloads(0));
    let both = 1 << GUEST_TSO4 | 1 << GUEST_CSUM;
    assert_eq!(offloads(both), Offloads(Offloads::TSO4 | Offloads::CHECKSUM));
    assert_eq!(offloads(both | 1 << GUEST_USO4), offloads(both));
    assert_eq!(guest_offloads(both | 1 << CSUM | 1 << MRG_RXBUF), both);
    assert_eq!(max_frame(1 << GUEST_CSUM, 1500), 1530);
    assert_eq!(max_frame(both, 1500), MAX_FRAME);
}

#[test]
fn a_driver_knows_of_one_pair_unless_it_says_otherwise() {
    assert_eq!((pairs(1 << CTRL_VQ, 4), pairs(1 << MQ, 4)), (1, 4));
}
