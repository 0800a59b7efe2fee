use proptest::prelude::*;

use super::*;

fn used(net: &str, is_local: bool) -> Used {
    Used {
        net: net.parse().unwrap(),
        user: "test".to_owned(),
        is_local,
    }
}

#[test]
fn other_private_blocks_are_used_when_ten_is_taken() {
    let taken = [used("10.0.0.0/8", false), used("172.16.0.0/13", false)];
    assert_eq!(
        free_ipv4(&taken, &mut rand::rng()).unwrap().to_string(),
        "172.24.0.1/24"
    );
    let everything = [used("0.0.0.0/1", false), used("128.0.0.0/1", false)];
    assert_eq!(free_ipv4(&everything, &mut rand::rng()), None);
    assert_eq!(free_ipv6(&[used("fd00::/8", false)], &mut rand::rng()), None);
}

#[test]
fn subnet_inside_a_route_may_be_asked_for_but_not_inside_an_address() {
    let net = "10.1.2.1/24".parse().unwrap();
    assert_eq!(conflict(net, &[used("10.0.0.0/8", false)]), None);
    assert!(conflict(net, &[used("10.1.2.0/24", false)]).is_some());
    assert!(conflict(net, &[used("10.1.2.9/30", true)]).is_some());
    assert!(conflict(net, &[used("10.1.0.1/16", true)]).is_some());
    assert_eq!(conflict(net, &[used("fd42::1/64", true)]), None);
}

proptest! {
    #[test]
    fn free_subnets_overlap_nothing(nets in prop::collection::vec((any::<u32>(), 12_u8..=32), 0..40)) {
        let used: Vec<Used> = nets
            .into_iter()
            .map(|(address, length)| {
                let inside_ten = (address & 0x00ff_ffff) | 0x0a00_0000;
                let net = Ipv4Net::new(inside_ten.into(), length).unwrap();
                Used { net: net.into(), user: String::new(), is_local: false }
            })
            .collect();
        if let Some(net) = free_ipv4(&used, &mut rand::rng()) {
            prop_assert!(used.iter().all(|other| !overlap(net.into(), other.net)));
            prop_assert_eq!(u32::from(net.addr()) & 0xff, 1);
        }
    }
}
