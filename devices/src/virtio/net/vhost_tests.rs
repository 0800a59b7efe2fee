//! Without vhost-net; guests use it in the end-to-end tests.

use super::*;
use crate::virtio::net::MacAddress;
use std::os::unix::net::UnixDatagram;

#[test]
fn what_is_missing_is_said() {
    let config = Config {
        mac: MacAddress([2, 0, 0, 0, 0, 1]),
        mtu: 1500,
        limits: Default::default(),
    };
    let (socket, _other) = UnixDatagram::pair().unwrap();
    let tap = Tap::from_packet_socket(socket.into()).unwrap();
    let error = VhostNet::new(config.clone(), vec![tap], Vec::new())
        .err()
        .unwrap();
    assert_eq!(
        error.to_string(),
        "0 instances of vhost-net for 1 pairs of queues; give one for each"
    );
    let (socket, _other) = UnixDatagram::pair().unwrap();
    let tap = Tap::from_packet_socket(socket.into()).unwrap();
    // Something else than vhost-net.
    let null = File::open("/dev/null").unwrap();
    let error = VhostNet::new(config, vec![tap], vec![null]).err().unwrap();
    assert!(matches!(error, VhostNetError::Kernel(_)), "{error}");
    if let Err(error) = VhostNet::open_instances(1) {
        assert!(error.to_string().contains("leave `vhost` out"), "{error}");
    }
}
