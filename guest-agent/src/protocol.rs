//! The language between the daemon and an agent: frames on a byte stream, one request per connection.
//!
//! A frame is a type byte, a little-endian 32-bit length and that many bytes of payload. The client speaks first
//! with [`Frame::Request`], the agent answers with [`Frame::Response`]. After a successful [`Request::Exec`] both
//! sides exchange data and control frames until [`Frame::Exit`]; after a successful [`Request::Sftp`] the stream
//! is no longer framed and speaks SFTP version 3. All other requests end with their response.
//!
//! Both sides treat the other as hostile: a length above the limit of its frame type is refused before a byte of
//! the payload is buffered, and unknown types end the connection. Unknown JSON fields are ignored, so that an
//! agent in an old guest and a new daemon understand each other.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::codec::{Decoder, Encoder};

use crate::state::GuestState;

/// Port of the agent on a VM's vsock device.
pub const VSOCK_PORT: u32 = 1024;

/// Version of this protocol, as told by [`Hello`]. It grows when an old peer could misunderstand a new one.
pub const PROTOCOL_VERSION: u32 = 1;

/// Largest JSON payload: room for any command line the kernel takes in practice, small enough to buffer.
pub const MAX_JSON: usize = 1 << 20;

/// Largest data payload: one pipe buffer's worth (pipe(7): 64 KiB), so a full pipe is one frame.
pub const MAX_DATA: usize = 64 << 10;

/// Standard input that a client may send before the agent grants more with [`Control::StdinWindow`].
///
/// Without a window, a command that does not read its input would fill the connection and hold up the resize and
/// signal messages behind it.
pub const STDIN_WINDOW: u32 = 256 << 10;

/// Type byte and length.
const HEADER: usize = 5;

/// Why a byte stream is not a conversation of this protocol.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// The type byte has no meaning.
    #[error("unknown frame type {0}: the peer speaks another protocol")]
    UnknownType(u8),
    /// The length is over the limit of the frame's type.
    #[error("frame of type {kind} with {len} bytes is over the limit of {limit}")]
    TooLong {
        /// Type byte of the frame.
        kind: u8,
        /// Length it announced.
        len: usize,
        /// Largest length allowed.
        limit: usize,
    },
    /// The payload is not the JSON document that belongs there.
    #[error("payload of frame type {kind} is malformed")]
    Json {
        /// Type byte of the frame.
        kind: u8,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// A valid frame came where another one belongs.
    #[error("unexpected {0} frame at this point of the conversation")]
    Unexpected(&'static str),
    /// More standard input than [`Control::StdinWindow`] granted.
    #[error("the peer sent {0} bytes of standard input more than it was granted")]
    WindowExceeded(u64),
    /// The stream failed or ended inside a frame.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// What a client asks for. One per connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Request {
    /// Who is there? Answered with [`ResponseBody::Hello`].
    Hello,
    /// Run a command.
    Exec(ExecRequest),
    /// Turn the stream into an SFTP session on the file system the agent sees.
    Sftp,
    /// How is the instance? Answered with [`ResponseBody::State`].
    State,
    /// Stop or restart the instance in an orderly way. Answered before it happens.
    Shutdown {
        /// How to end.
        action: ShutdownAction,
    },
}

/// A command to run and the surroundings it runs in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecRequest {
    /// Program and arguments; the program is looked up in `PATH` of the command's environment.
    pub command: Vec<String>,
    /// Variables on top of the defaults (`PATH`, `HOME`, `USER`, `LANG`, and `TERM` with a terminal).
    pub environment: BTreeMap<String, String>,
    /// Working directory; the user's home when absent.
    pub cwd: Option<String>,
    /// User id.
    pub user: u32,
    /// Primary group id. Supplementary groups come from the instance's `/etc/group`.
    pub group: u32,
    /// Run in a terminal of its own: standard output and error arrive together as [`Frame::Stdout`].
    pub terminal: bool,
    /// Columns of the terminal; 0 leaves the kernel's default.
    pub width: u16,
    /// Rows of the terminal; 0 leaves the kernel's default.
    pub height: u16,
    /// The client will send standard input. Without it, the command reads from `/dev/null` (or only has its
    /// terminal, which then sees no input).
    pub stdin: bool,
}

/// How an instance ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShutdownAction {
    /// Switch off.
    Poweroff,
    /// Start again.
    Reboot,
    /// Stop the processors, leave the power on.
    Halt,
}

/// Answer to a [`Request`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// Done, or begun.
    Ok(ResponseBody),
    /// Refused.
    Error(AgentError),
}

/// What comes with a successful answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResponseBody {
    /// Nothing further.
    Empty,
    /// To [`Request::Hello`].
    Hello(Hello),
    /// To [`Request::State`].
    State(Box<GuestState>),
}

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL_VERSION`] of the agent.
    pub protocol: u32,
    /// Version of the agent's crate.
    pub agent: String,
    /// Host name as the kernel has it.
    pub hostname: String,
    /// The kernel's boot id: differs after every boot of a VM.
    pub boot_id: String,
}

/// Why the agent refused a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct AgentError {
    /// What sort of refusal.
    pub kind: ErrorKind,
    /// For people: what was wrong, with the value.
    pub message: String,
}

/// Sorts of refusal, as far as a client can act on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// Something named in the request does not exist.
    NotFound,
    /// The agent may not do that.
    Permission,
    /// The request makes no sense.
    Invalid,
    /// It was tried and failed.
    Failed,
}

/// Messages beside the data of a running command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Control {
    /// To the agent: the terminal has a new size.
    Resize {
        /// Columns.
        width: u16,
        /// Rows.
        height: u16,
    },
    /// To the agent: send a signal to the command.
    Signal {
        /// Signal number.
        signal: i32,
    },
    /// To the client: so many more bytes of standard input are welcome.
    StdinWindow {
        /// Bytes granted.
        bytes: u32,
    },
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// 0 to 255; 128 + signal when one ended it, 127 when it was not found, 126 when it cannot be executed.
    pub status: i32,
}

/// One message on the stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// Client to agent, first and only once.
    Request(Request),
    /// Agent to client, to the request.
    Response(Response),
    /// Input for the command; empty at its end.
    Stdin(Bytes),
    /// Output of the command; empty at its end.
    Stdout(Bytes),
    /// Error output of the command; empty at its end.
    Stderr(Bytes),
    /// Either way.
    Control(Control),
    /// Agent to client, last.
    Exit(Exit),
}

impl Frame {
    /// Type byte on the wire.
    fn kind(&self) -> u8 {
        match self {
            Self::Request(_) => 0,
            Self::Response(_) => 1,
            Self::Stdin(_) => 2,
            Self::Stdout(_) => 3,
            Self::Stderr(_) => 4,
            Self::Control(_) => 5,
            Self::Exit(_) => 6,
        }
    }

    /// Name for messages to people.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Request(_) => "request",
            Self::Response(_) => "response",
            Self::Stdin(_) => "stdin",
            Self::Stdout(_) => "stdout",
            Self::Stderr(_) => "stderr",
            Self::Control(_) => "control",
            Self::Exit(_) => "exit",
        }
    }

    /// Puts the frame's bytes at the end of `buffer`.
    pub fn encode(&self, buffer: &mut BytesMut) -> Result<(), ProtocolError> {
        let kind = self.kind();
        let json = |value: Result<Vec<u8>, serde_json::Error>| {
            value
                .map(Bytes::from)
                .map_err(|source| ProtocolError::Json { kind, source })
        };
        let payload = match self {
            Self::Request(value) => json(serde_json::to_vec(value))?,
            Self::Response(value) => json(serde_json::to_vec(value))?,
            Self::Control(value) => json(serde_json::to_vec(value))?,
            Self::Exit(value) => json(serde_json::to_vec(value))?,
            Self::Stdin(data) | Self::Stdout(data) | Self::Stderr(data) => data.clone(),
        };
        check_length(kind, payload.len())?;
        buffer.reserve(HEADER + payload.len());
        buffer.put_u8(kind);
        buffer.put_u32_le(payload.len() as u32);
        buffer.put_slice(&payload);
        Ok(())
    }

    /// Makes a frame of its type byte and payload.
    fn decode(kind: u8, payload: Bytes) -> Result<Self, ProtocolError> {
        check_length(kind, payload.len())?;
        let malformed = |source| ProtocolError::Json { kind, source };
        Ok(match kind {
            0 => Self::Request(serde_json::from_slice(&payload).map_err(malformed)?),
            1 => Self::Response(serde_json::from_slice(&payload).map_err(malformed)?),
            2 => Self::Stdin(payload),
            3 => Self::Stdout(payload),
            4 => Self::Stderr(payload),
            5 => Self::Control(serde_json::from_slice(&payload).map_err(malformed)?),
            6 => Self::Exit(serde_json::from_slice(&payload).map_err(malformed)?),
            other => return Err(ProtocolError::UnknownType(other)),
        })
    }
}

/// Refuses unknown types and lengths over the type's limit.
fn check_length(kind: u8, len: usize) -> Result<(), ProtocolError> {
    let limit = match kind {
        0 | 1 | 5 | 6 => MAX_JSON,
        2..=4 => MAX_DATA,
        other => return Err(ProtocolError::UnknownType(other)),
    };
    if len > limit {
        Err(ProtocolError::TooLong { kind, len, limit })
    } else {
        Ok(())
    }
}

/// Frames for `tokio_util`'s `FramedRead` and `FramedWrite`.
#[derive(Debug, Default, Clone, Copy)]
pub struct FrameCodec;

impl Decoder for FrameCodec {
    type Item = Frame;
    type Error = ProtocolError;

    fn decode(&mut self, source: &mut BytesMut) -> Result<Option<Frame>, ProtocolError> {
        if source.len() < HEADER {
            return Ok(None);
        }
        let (kind, len) = parse_header([source[0], source[1], source[2], source[3], source[4]])?;
        if source.len() < HEADER + len {
            source.reserve(HEADER + len - source.len());
            return Ok(None);
        }
        source.advance(HEADER);
        Frame::decode(kind, source.split_to(len).freeze()).map(Some)
    }
}

impl Encoder<Frame> for FrameCodec {
    type Error = ProtocolError;

    fn encode(&mut self, frame: Frame, buffer: &mut BytesMut) -> Result<(), ProtocolError> {
        frame.encode(buffer)
    }
}

/// Type byte and checked length.
fn parse_header(header: [u8; HEADER]) -> Result<(u8, usize), ProtocolError> {
    let [kind, length @ ..] = header;
    let len = u32::from_le_bytes(length) as usize;
    check_length(kind, len)?;
    Ok((kind, len))
}

/// Reads exactly one frame and not a byte more, so that the stream can change its language behind it.
///
/// `None` when the stream ends before the first byte. Not cancel safe.
pub async fn read_frame<R>(stream: &mut R) -> Result<Option<Frame>, ProtocolError>
where
    R: AsyncRead + Unpin,
{
    let mut header = [0; HEADER];
    if stream.read(&mut header[..1]).await? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut header[1..]).await?;
    let (kind, len) = parse_header(header)?;
    let mut payload = vec![0; len];
    stream.read_exact(&mut payload).await?;
    Frame::decode(kind, payload.into()).map(Some)
}

/// Writes one frame and flushes it.
pub async fn write_frame<W>(stream: &mut W, frame: &Frame) -> Result<(), ProtocolError>
where
    W: AsyncWrite + Unpin,
{
    let mut buffer = BytesMut::new();
    frame.encode(&mut buffer)?;
    stream.write_all(&buffer).await?;
    stream.flush().await?;
    Ok(())
}

#[cfg(test)]
#[path = "protocol_tests.rs"]
mod tests;
