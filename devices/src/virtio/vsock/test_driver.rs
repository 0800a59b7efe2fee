//! A guest with a socket driver, for tests: it sends and receives packets by hand.

use super::*;
use crate::testing::{Harness, PATIENCE, Part};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

pub(super) const CID: u64 = 3;
pub(super) const BUFFER: u32 = 4096;

/// A guest with a socket driver.
pub(super) struct Driver {
    pub(super) harness: Harness,
    pub(super) directory: tempfile::TempDir,
}

/// A packet as the driver sees it.
#[derive(Debug)]
pub(super) struct Packet {
    pub(super) header: Header,
    pub(super) data: Vec<u8>,
}

impl Driver {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = Config {
            cid: CID as u32,
            socket: directory.path().join("v.sock"),
        };
        let mut driver = Self {
            harness: Harness::new(Vsock::new(config).unwrap(), 0),
            directory,
        };
        driver.post(64);
        driver
    }

    pub(super) fn post(&mut self, count: usize) {
        for _ in 0..count {
            self.harness.queues[RECEIVE].add(&[Part::Write(HEADER_LEN as u32 + BUFFER)]);
        }
        self.harness.queues[RECEIVE].kick();
    }

    pub(super) fn header(&self, ports: (u32, u32), operation: Operation) -> Header {
        Header {
            source_cid: CID,
            destination_cid: HOST_CID,
            source_port: ports.1,
            destination_port: ports.0,
            len: 0,
            socket_type: TYPE_STREAM,
            operation: Some(operation),
            flags: 0,
            buffer_size: 256 * 1024,
            forwarded: 0,
        }
    }

    pub(super) fn send(&mut self, header: Header, data: &[u8]) {
        let mut parts = vec![Part::Read(header.encode().to_vec())];
        if !data.is_empty() {
            parts.push(Part::Read(data.to_vec()));
        }
        self.harness.queues[TRANSMIT].add(&parts);
        self.harness.queues[TRANSMIT].kick();
        self.harness
            .next_used(TRANSMIT)
            .expect("the device takes the packet");
    }

    pub(super) fn send_operation(&mut self, ports: (u32, u32), operation: Operation, flags: u32) {
        let header = Header {
            flags,
            ..self.header(ports, operation)
        };
        self.send(header, &[]);
    }

    pub(super) fn send_data(&mut self, ports: (u32, u32), data: &[u8]) {
        let header = Header {
            len: data.len() as u32,
            ..self.header(ports, Operation::Data)
        };
        self.send(header, data);
    }

    pub(super) fn receive(&mut self) -> Packet {
        let (_, len, bytes) = self.harness.next_used(RECEIVE).expect("a packet for the guest");
        self.post(1);
        let header = Header::decode(bytes[..HEADER_LEN].try_into().unwrap());
        assert_eq!(len, HEADER_LEN as u32 + header.len);
        assert_eq!((header.source_cid, header.destination_cid), (HOST_CID, CID));
        Packet {
            header,
            data: bytes[HEADER_LEN..len as usize].to_vec(),
        }
    }

    pub(super) fn expect(&mut self, operation: Operation) -> Packet {
        loop {
            let packet = self.receive();
            // Credit is told at any time.
            if packet.header.operation == Some(Operation::CreditUpdate)
                && operation != Operation::CreditUpdate
            {
                continue;
            }
            assert_eq!(packet.header.operation, Some(operation), "{packet:?}");
            return packet;
        }
    }

    /// A host program that has connected to a port of the guest, and the two ports.
    pub(super) fn connect_from_host(&mut self, port: u32) -> (UnixStream, (u32, u32)) {
        let mut stream = self.dial(&format!("CONNECT {port}\n"));
        let request = self.expect(Operation::Request);
        assert_eq!(request.header.destination_port, port);
        let ports = (request.header.source_port, port);
        self.send_operation(ports, Operation::Response, 0);
        let mut line = [0; 14];
        stream.read_exact(&mut line).unwrap();
        assert_eq!(String::from_utf8_lossy(&line), format!("OK {}\n", ports.0));
        (stream, ports)
    }

    pub(super) fn dial(&self, line: &str) -> UnixStream {
        let mut stream = UnixStream::connect(self.directory.path().join("v.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(line.as_bytes()).unwrap();
        stream
    }
}

pub(super) fn read_to_end(stream: &mut UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}
