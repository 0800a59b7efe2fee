//! The header of each packet (virtio 1.3 §5.10.6), and its encoding.

/// Bytes of a header.
pub const HEADER_LEN: usize = 44;
/// The host's address (§5.10.4).
pub const HOST_CID: u64 = 2;
/// The only socket type that this device carries.
pub const TYPE_STREAM: u16 = 1;
/// In a shutdown: the sender will receive no more.
pub const SHUTDOWN_RECEIVE: u32 = 1;
/// In a shutdown: the sender will send no more.
pub const SHUTDOWN_SEND: u32 = 2;
/// Both of them.
pub const SHUTDOWN_BOTH: u32 = SHUTDOWN_RECEIVE | SHUTDOWN_SEND;

/// What a packet is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Operation {
    /// Opens a connection.
    Request = 1,
    /// Accepts one.
    Response = 2,
    /// Refuses or ends one at once.
    Reset = 3,
    /// Ends one or both directions in order.
    Shutdown = 4,
    /// Carries data.
    Data = 5,
    /// Tells the sender's buffer space.
    CreditUpdate = 6,
    /// Asks for the receiver's buffer space.
    CreditRequest = 7,
}

impl Operation {
    fn from_number(number: u16) -> Option<Self> {
        Some(match number {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Reset,
            4 => Self::Shutdown,
            5 => Self::Data,
            6 => Self::CreditUpdate,
            7 => Self::CreditRequest,
            _ => return None,
        })
    }
}

/// A packet's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Sender.
    pub source_cid: u64,
    /// Receiver.
    pub destination_cid: u64,
    /// Sender's port.
    pub source_port: u32,
    /// Receiver's port.
    pub destination_port: u32,
    /// Bytes of data after the header.
    pub len: u32,
    /// Socket type.
    pub socket_type: u16,
    /// What it is for; none if the number is unknown.
    pub operation: Option<Operation>,
    /// Meaning depends on the operation.
    pub flags: u32,
    /// The sender's whole buffer space for this connection.
    pub buffer_size: u32,
    /// Bytes the sender has taken out of that buffer so far, modulo 2³².
    pub forwarded: u32,
}

impl Header {
    /// Decodes a header. Every pattern of bytes is one; whether it makes sense is for the caller.
    pub fn decode(bytes: &[u8; HEADER_LEN]) -> Self {
        let mut fields = Fields { bytes, at: 0 };
        Self {
            source_cid: fields.u64(),
            destination_cid: fields.u64(),
            source_port: fields.u32(),
            destination_port: fields.u32(),
            len: fields.u32(),
            socket_type: fields.u16(),
            operation: Operation::from_number(fields.u16()),
            flags: fields.u32(),
            buffer_size: fields.u32(),
            forwarded: fields.u32(),
        }
    }

    /// Encodes the header; an unknown operation becomes 0, which is invalid.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let operation = self.operation.map_or(0, |operation| operation as u16);
        let mut bytes = [0; HEADER_LEN];
        let fields = self
            .source_cid
            .to_le_bytes()
            .into_iter()
            .chain(self.destination_cid.to_le_bytes())
            .chain(self.source_port.to_le_bytes())
            .chain(self.destination_port.to_le_bytes())
            .chain(self.len.to_le_bytes())
            .chain(self.socket_type.to_le_bytes())
            .chain(operation.to_le_bytes())
            .chain(self.flags.to_le_bytes())
            .chain(self.buffer_size.to_le_bytes())
            .chain(self.forwarded.to_le_bytes());
        bytes.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
        bytes
    }

    /// The reset that answers this packet.
    pub fn reset(&self) -> Self {
        Self {
            source_cid: self.destination_cid,
            destination_cid: self.source_cid,
            source_port: self.destination_port,
            destination_port: self.source_port,
            len: 0,
            socket_type: self.socket_type,
            operation: Some(Operation::Reset),
            flags: 0,
            buffer_size: 0,
            forwarded: 0,
        }
    }
}

/// Little-endian fields one after the other.
struct Fields<'a> {
    bytes: &'a [u8; HEADER_LEN],
    at: usize,
}

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut field = [0; N];
        field
            .iter_mut()
            .zip(self.bytes.iter().skip(self.at))
            .for_each(|(to, from)| *to = *from);
        self.at += N;
        field
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }
}

#[cfg(test)]
#[path = "packet_tests.rs"]
mod tests;
