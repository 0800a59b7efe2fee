//! Control messages of a console with several ports (virtio 1.3 §5.3.6.2).

use super::config::Size;
use crate::memory::Ram;
use crate::virtio::buffer::Buffer;

/// Length of a message without what some messages have behind it.
const HEADER_LEN: usize = 8;

/// What the driver tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// VIRTIO_CONSOLE_DEVICE_READY: it knows control messages, or cannot use the device.
    DeviceReady(bool),
    /// VIRTIO_CONSOLE_PORT_READY: it has this port now, or could not make it.
    PortReady(u32, bool),
    /// VIRTIO_CONSOLE_PORT_OPEN: a program of the guest has the port open, or not any more.
    PortOpen(u32, bool),
}

impl Told {
    /// Reads a message. Those that are too short or none of a driver's are nothing.
    pub(super) fn read(buffer: &mut Buffer, ram: &Ram) -> Option<Self> {
        let mut bytes = [0; HEADER_LEN];
        buffer.read(ram, &mut bytes).ok()?;
        let [i0, i1, i2, i3, e0, e1, v0, v1] = bytes;
        let port = u32::from_le_bytes([i0, i1, i2, i3]);
        let value = u16::from_le_bytes([v0, v1]) != 0;
        match u16::from_le_bytes([e0, e1]) {
            0 => Some(Self::DeviceReady(value)),
            3 => Some(Self::PortReady(port, value)),
            6 => Some(Self::PortOpen(port, value)),
            _ => None,
        }
    }
}

/// What the device tells of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tell<'a> {
    /// VIRTIO_CONSOLE_PORT_ADD.
    Add,
    /// VIRTIO_CONSOLE_CONSOLE_PORT.
    Console,
    /// VIRTIO_CONSOLE_RESIZE.
    Resize(Size),
    /// VIRTIO_CONSOLE_PORT_NAME.
    Name(&'a str),
    /// VIRTIO_CONSOLE_PORT_OPEN.
    Open(bool),
}

impl Tell<'_> {
    /// The message about a port.
    pub(super) fn to_bytes(self, port: u32) -> Vec<u8> {
        let (event, value) = match self {
            Self::Add => (1u16, 0u16),
            Self::Console => (4, 1),
            Self::Resize(_) => (5, 0),
            Self::Open(open) => (6, open.into()),
            Self::Name(_) => (7, 1),
        };
        let mut bytes = port.to_le_bytes().to_vec();
        bytes.extend([event, value].map(u16::to_le_bytes).as_flattened());
        match self {
            Self::Resize(size) => bytes.extend(size.to_bytes()),
            Self::Name(name) => bytes.extend(name.as_bytes()),
            Self::Add | Self::Console | Self::Open(_) => {}
        }
        bytes
    }
}
