//! A guest's driver, written out by hand, against real unix sockets.

use super::packet::{SHUTDOWN_BOTH, SHUTDOWN_SEND};
use super::test_driver::{CID, Driver, read_to_end};
use super::*;
use crate::testing::{Harness, Part};
use std::io::{Read, Write};
use std::net::Shutdown;

#[test]
fn a_host_program_talks_to_a_port_of_the_guest() {
    let mut driver = Driver::new();
    let (mut stream, ports) = driver.connect_from_host(1024);
    stream.write_all(b"hello guest").unwrap();
    assert_eq!(driver.expect(Operation::Data).data, b"hello guest");
    driver.send_data(ports, b"hello host");
    let mut bytes = [0; 10];
    stream.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"hello host");
}

#[test]
fn data_right_behind_the_connect_line_reaches_the_guest() {
    let mut driver = Driver::new();
    let _stream = driver.dial("CONNECT 52\nfirst words");
    let request = driver.expect(Operation::Request);
    driver.send_operation((request.header.source_port, 52), Operation::Response, 0);
    assert_eq!(driver.expect(Operation::Data).data, b"first words");
}

#[test]
fn a_guest_program_talks_to_a_listener_of_the_host() {
    let mut driver = Driver::new();
    let listener = UnixListener::bind(driver.directory.path().join("v.sock_7000")).unwrap();
    driver.send_operation((7000, 99), Operation::Request, 0);
    assert_eq!(driver.expect(Operation::Response).header.destination_port, 99);
    let (mut stream, _) = listener.accept().unwrap();
    driver.send_data((7000, 99), b"from inside");
    driver.send_operation((7000, 99), Operation::Shutdown, SHUTDOWN_BOTH);
    assert_eq!(read_to_end(&mut stream), b"from inside");
    driver.expect(Operation::Reset);
}

#[test]
fn connections_to_nobody_are_reset() {
    let mut driver = Driver::new();
    driver.send_operation((7001, 99), Operation::Request, 0);
    let reset = driver.expect(Operation::Reset);
    assert_eq!(
        (reset.header.source_port, reset.header.destination_port),
        (7001, 99)
    );
    // The guest has no listener either: the host program sees the end without an OK.
    let mut stream = driver.dial("CONNECT 9\n");
    let request = driver.expect(Operation::Request);
    driver.send_operation((request.header.source_port, 9), Operation::Reset, 0);
    assert_eq!(read_to_end(&mut stream), b"");
}

#[test]
fn nonsense_instead_of_connect_is_hung_up_on() {
    let driver = Driver::new();
    for line in [
        "GET / HTTP/1.1\n",
        "CONNECT\n",
        "CONNECT x\n",
        "CONNECT 4294967296\n",
        &"x".repeat(40),
    ] {
        let mut stream = driver.dial(line);
        let mut bytes = Vec::new();
        // Unread words behind the line may turn the end into an error; an answer never comes.
        let _ = stream.read_to_end(&mut bytes);
        assert_eq!(bytes, b"", "{line:?}");
    }
}

#[test]
fn the_end_of_input_reaches_the_guest_while_output_goes_on() {
    let mut driver = Driver::new();
    let (mut stream, ports) = driver.connect_from_host(1024);
    stream.write_all(b"all the input").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(driver.expect(Operation::Data).data, b"all the input");
    assert_eq!(driver.expect(Operation::Shutdown).header.flags, SHUTDOWN_SEND);
    driver.send_data(ports, b"some ");
    driver.send_data(ports, b"output");
    driver.send_operation(ports, Operation::Shutdown, SHUTDOWN_BOTH);
    assert_eq!(read_to_end(&mut stream), b"some output");
    driver.expect(Operation::Reset);
}

#[test]
fn the_guest_ends_its_output_and_still_gets_input() {
    let mut driver = Driver::new();
    let (mut stream, ports) = driver.connect_from_host(1024);
    driver.send_data(ports, b"done");
    driver.send_operation(ports, Operation::Shutdown, SHUTDOWN_SEND);
    assert_eq!(read_to_end(&mut stream), b"done");
    stream.write_all(b"late input").unwrap();
    assert_eq!(driver.expect(Operation::Data).data, b"late input");
    drop(stream);
    assert_eq!(driver.expect(Operation::Shutdown).header.flags, SHUTDOWN_BOTH);
}

#[test]
fn a_host_program_that_leaves_is_told_after_what_it_sent() {
    let mut driver = Driver::new();
    let (mut stream, ports) = driver.connect_from_host(1024);
    stream.write_all(&[9; 10_000]).unwrap();
    drop(stream);
    let (mut received, mut ended) = (0, 0);
    // The end of what it sent may be seen before its hang-up.
    while ended != SHUTDOWN_BOTH {
        let packet = driver.receive();
        match packet.header.operation {
            Some(Operation::Data) if ended & SHUTDOWN_SEND == 0 => received += packet.data.len(),
            Some(Operation::Shutdown) => ended |= packet.header.flags,
            other => panic!("unexpected {other:?} after {received} bytes and the end {ended:#x}"),
        }
    }
    assert_eq!(received, 10_000);
    driver.send_operation(ports, Operation::Reset, 0);
    // The ports are free again, and data for them is answered by a reset.
    driver.send_data(ports, b"?");
    driver.expect(Operation::Reset);
}

#[test]
fn output_before_the_guest_closed_is_delivered_to_a_slow_reader() {
    let mut driver = Driver::new();
    let (mut stream, ports) = driver.connect_from_host(1024);
    let (mut sent, mut room) = (0u64, u64::from(credit::BUFFER_SIZE));
    // More than the socket holds, so that some stays in the device.
    while sent < 400_000 && room >= 4096 {
        driver.send_data(ports, &vec![(sent / 4096) as u8; 4096]);
        sent += 4096;
        room -= 4096;
        if room < 4096 {
            // Wait until the device says whether it could pass some on.
            let (head, _, bytes) = match driver.harness.queues[RECEIVE].poll() {
                Some(used) => used,
                None => break,
            };
            let _ = head;
            let header = Header::decode(bytes[..HEADER_LEN].try_into().unwrap());
            room = u64::from(header.buffer_size) - (sent - u64::from(header.forwarded));
            driver.post(1);
        }
    }
    driver.send_operation(ports, Operation::Shutdown, SHUTDOWN_BOTH);
    // The guest gives up waiting, as Linux does after some seconds; what it sent is still owed.
    driver.send_operation(ports, Operation::Reset, 0);
    assert_eq!(read_to_end(&mut stream).len() as u64, sent);
}

#[test]
fn unread_input_does_not_turn_the_end_of_output_into_an_error() {
    let mut driver = Driver::new();
    let (mut stream, ports) = driver.connect_from_host(1024);
    driver.send_data(ports, b"bye");
    let header = Header {
        buffer_size: 0,
        ..driver.header(ports, Operation::CreditUpdate)
    };
    driver.send(header, &[]);
    stream.write_all(&[1; 50_000]).unwrap();
    let header = Header {
        buffer_size: 0,
        flags: SHUTDOWN_BOTH,
        ..driver.header(ports, Operation::Shutdown)
    };
    driver.send(header, &[]);
    assert_eq!(read_to_end(&mut stream), b"bye");
}

#[test]
fn the_guests_credit_is_never_exceeded() {
    let mut driver = Driver::new();
    let (mut stream, ports) = driver.connect_from_host(1024);
    let header = Header {
        buffer_size: 1000,
        ..driver.header(ports, Operation::CreditUpdate)
    };
    driver.send(header, &[]);
    stream.write_all(&[5; 5000]).unwrap();
    let mut received = 0u32;
    while received < 5000 {
        let packet = driver.receive();
        match packet.header.operation {
            Some(Operation::Data) => received += packet.header.len,
            Some(Operation::CreditRequest) => {
                assert_eq!(received % 1000, 0, "asks only when there is no room");
                let answer = driver.header(ports, Operation::CreditUpdate);
                driver.send(
                    Header {
                        buffer_size: 1000,
                        forwarded: received,
                        ..answer
                    },
                    &[],
                );
            }
            other => panic!("unexpected {other:?}"),
        }
        assert!(received.is_multiple_of(1000) || received < 5000);
    }
}

#[test]
fn a_guest_that_exceeds_our_credit_is_reset() {
    let mut driver = Driver::new();
    let (_stream, ports) = driver.connect_from_host(1024);
    let mut sent = 0;
    // The host does not read: socket buffer and credit fill up.
    let reset = loop {
        driver.send_data(ports, &[0; 65_536]);
        sent += 65_536;
        assert!(sent < 4 << 20, "the device keeps no more than its credit");
        if let Some((_, _, bytes)) = driver.harness.queues[RECEIVE].poll() {
            let header = Header::decode(bytes[..HEADER_LEN].try_into().unwrap());
            if header.operation == Some(Operation::Reset) {
                break header;
            }
            driver.post(1);
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    assert_eq!(reset.destination_port, ports.1);
}

#[test]
fn much_data_flows_both_ways_in_order() {
    const TOTAL: usize = 1 << 20;
    let mut driver = Driver::new();
    let (mut stream, ports) = driver.connect_from_host(1024);
    let pattern = |index: usize| (index % 251) as u8;
    let mut writer = stream.try_clone().unwrap();
    let host = std::thread::spawn(move || {
        let bytes: Vec<u8> = (0..TOTAL).map(pattern).collect();
        writer.write_all(&bytes).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let reader = std::thread::spawn(move || read_to_end(&mut stream));
    let mut to_guest = Vec::new();
    let (mut sent, mut forwarded) = (0usize, 0u32);
    let mut ended = false;
    while !ended || sent < TOTAL {
        let room = credit::BUFFER_SIZE - (sent as u32).wrapping_sub(forwarded);
        let len = (TOTAL - sent).min(3000);
        if len > 0 && room as usize >= len {
            let bytes: Vec<u8> = (sent..sent + len).map(pattern).collect();
            let header = driver.header(ports, Operation::Data);
            let header = Header {
                len: len as u32,
                forwarded: to_guest.len() as u32,
                ..header
            };
            driver.send(header, &bytes);
            sent += len;
            if driver.harness.queues[RECEIVE].in_flight() == 64 && room as usize > 2 * len {
                continue;
            }
        }
        if ended && room as usize >= len {
            continue;
        }
        let packet = driver.receive();
        forwarded = packet.header.forwarded;
        match packet.header.operation {
            Some(Operation::Data) => to_guest.extend(packet.data),
            Some(Operation::Shutdown) => ended = true,
            Some(Operation::CreditRequest) => {
                let header = driver.header(ports, Operation::CreditUpdate);
                driver.send(
                    Header {
                        forwarded: to_guest.len() as u32,
                        ..header
                    },
                    &[],
                );
            }
            Some(Operation::CreditUpdate) => {}
            other => panic!("unexpected {other:?}"),
        }
    }
    driver.send_operation(ports, Operation::Shutdown, SHUTDOWN_BOTH);
    host.join().unwrap();
    let to_host = reader.join().unwrap();
    assert!(to_host.iter().copied().eq((0..TOTAL).map(pattern)));
    assert!(to_guest.iter().copied().eq((0..TOTAL).map(pattern)));
}

#[test]
fn forged_and_senseless_packets_change_nothing() {
    let mut driver = Driver::new();
    let (mut stream, ports) = driver.connect_from_host(1024);
    let good = driver.header(ports, Operation::Reset);
    driver.send(
        Header {
            source_cid: 9,
            ..good
        },
        &[],
    );
    driver.harness.queues[TRANSMIT].add(&[Part::Read(vec![1; 20])]);
    driver.harness.queues[TRANSMIT].kick();
    driver.harness.next_used(TRANSMIT).unwrap();
    assert_eq!(driver.harness.device.metrics()["invalid_packets"], 2);
    // Another kind of socket, another host, a connection that does not exist.
    for header in [
        Header {
            socket_type: 2,
            operation: Some(Operation::Request),
            ..good
        },
        Header {
            destination_cid: 77,
            operation: Some(Operation::Data),
            ..good
        },
        Header {
            source_port: 5,
            operation: Some(Operation::Data),
            ..good
        },
        Header {
            source_port: 5,
            operation: None,
            ..good
        },
    ] {
        driver.send(header, &[]);
        let bytes = driver.harness.next_used(RECEIVE).unwrap().2;
        driver.post(1);
        let answer = Header::decode(bytes[..HEADER_LEN].try_into().unwrap());
        assert_eq!(answer, header.reset());
    }
    stream.write_all(b"still here").unwrap();
    assert_eq!(driver.expect(Operation::Data).data, b"still here");
}

#[test]
fn a_guest_that_takes_no_packets_cannot_pile_them_up() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config {
        cid: CID as u32,
        socket: directory.path().join("v.sock"),
    };
    let mut driver = Driver {
        harness: Harness::new(Vsock::new(config).unwrap(), 0),
        directory,
    };
    let mut taken = 0;
    for port in 0..1000 {
        let header = driver.header((1, port), Operation::Data);
        if driver.harness.queues[TRANSMIT].in_flight() == 200 {
            break;
        }
        driver.harness.queues[TRANSMIT].add(&[Part::Read(header.encode().to_vec())]);
        driver.harness.queues[TRANSMIT].kick();
        std::thread::sleep(Duration::from_micros(200));
        while driver.harness.queues[TRANSMIT].poll().is_some() {
            taken += 1;
        }
    }
    assert_eq!(taken, RESETS_MAX);
    // As it takes the resets, its packets go on.
    for _ in 0..4 {
        driver.post(64);
        for _ in 0..64 {
            driver.harness.next_used(RECEIVE).expect("a reset");
        }
    }
    for _ in 0..200 {
        driver.harness.next_used(TRANSMIT).expect("the rest is taken");
    }
}

#[test]
fn the_number_of_connections_is_bounded_and_places_are_used_again() {
    let mut driver = Driver::new();
    driver.post(128);
    let streams: Vec<_> = (0..table::CONNECTIONS_MAX).map(|_| driver.dial("")).collect();
    // One too many waits in the backlog until there is a place.
    let _late = driver.dial("CONNECT 5\n");
    std::thread::sleep(Duration::from_millis(50));
    assert!(driver.harness.queues[RECEIVE].poll().is_none());
    drop(streams);
    driver.expect(Operation::Request);
}

#[test]
fn a_reset_of_the_device_ends_all_connections_and_new_ones_work() {
    let mut driver = Driver::new();
    let (mut stream, _) = driver.connect_from_host(1024);
    driver.harness.device.reset();
    assert_eq!(read_to_end(&mut stream), b"");
    driver.harness.activate(0);
    driver.post(8);
    let (mut stream, ports) = driver.connect_from_host(1024);
    driver.send_data(ports, b"again");
    let mut bytes = [0; 5];
    stream.read_exact(&mut bytes).unwrap();
}

#[test]
fn connections_survive_a_pause() {
    let mut driver = Driver::new();
    let (mut stream, ports) = driver.connect_from_host(1024);
    driver.harness.device.pause().unwrap();
    stream.write_all(b"while paused").unwrap();
    driver.harness.device.resume().unwrap();
    assert_eq!(driver.expect(Operation::Data).data, b"while paused");
    driver.send_data(ports, b"ok");
    let mut bytes = [0; 2];
    stream.read_exact(&mut bytes).unwrap();
}

#[test]
fn a_restored_guest_is_told_that_its_connections_are_gone() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config {
        cid: CID as u32,
        socket: directory.path().join("v.sock"),
    };
    let listener = UnixListener::bind(&config.socket).unwrap();
    let mut harness = Harness::new(Vsock::restore(State { config }, listener).unwrap(), 0);
    let (len, event) = harness.request(EVENT, &[Part::Write(4)]);
    assert_eq!((len, event), (4, EVENT_TRANSPORT_RESET.to_le_bytes().to_vec()));
}

#[test]
fn reserved_addresses_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    for cid in [0, 1, 2, u32::MAX] {
        let socket = directory.path().join(format!("{cid}"));
        assert!(matches!(
            Vsock::new(Config { cid, socket }),
            Err(VsockError::Cid(_))
        ));
    }
}
