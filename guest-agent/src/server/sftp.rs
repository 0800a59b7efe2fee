//! An SFTP session: packets in, replies out (draft-ietf-secsh-filexfer-02, with OpenSSH's extensions).
//!
//! The session answers one packet after the other and keeps the open handles. What is done to files is in
//! [`super::sftp_files`]. Packets are russh-sftp's; its server loop is not used because it answers packets it
//! cannot read under a wrong id and goes on after errors of the stream.

use std::collections::HashMap;
use std::io;

use bytes::{Buf, Bytes};
use russh_sftp::protocol::{
    Attrs, Data, ExtendedReply, File as Entry, Handle, Name, Packet, StatusCode, Version,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::sftp_files::{self as files, Directory, OpenFile};
use crate::protocol::ProtocolError;

/// Longest packet accepted, as in OpenSSH.
const LONGEST_PACKET: u32 = 256 << 10;

/// Most data in one reply: the longest packet less room for its header, again as in OpenSSH.
const LONGEST_READ: u32 = LONGEST_PACKET - 1024;

/// Directory entries in one reply.
const ENTRIES: usize = 128;

/// Handles a session may have open, so that it cannot use up the agent's descriptors.
const MOST_HANDLES: usize = 256;

/// What a client may rely on beyond the draft.
const EXTENSIONS: [(&str, &str); 5] = [
    ("posix-rename@openssh.com", "1"),
    ("hardlink@openssh.com", "1"),
    ("fsync@openssh.com", "1"),
    ("statvfs@openssh.com", "2"),
    ("lsetstat@openssh.com", "1"),
];

/// Answers packets until the peer closes the stream.
pub(super) async fn run<S>(mut stream: S) -> Result<(), ProtocolError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut session = Session::default();
    while let Some(packet) = read_packet(&mut stream).await? {
        let reply = session.answer(packet);
        let bytes = Bytes::try_from(reply).map_err(|error| io::Error::other(error.to_string()))?;
        stream.write_all(&bytes).await?;
        stream.flush().await?;
    }
    Ok(())
}

/// One packet without its length; `None` at the end of the stream.
async fn read_packet<S>(stream: &mut S) -> io::Result<Option<Bytes>>
where
    S: AsyncRead + Unpin,
{
    let length = match stream.read_u32().await {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    if length > LONGEST_PACKET {
        let message = format!("sftp packet of {length} bytes is over the limit of {LONGEST_PACKET}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    let mut packet = vec![0; length as usize];
    stream.read_exact(&mut packet).await?;
    Ok(Some(packet.into()))
}

/// What a handle stands for.
enum Open {
    File(OpenFile),
    Directory(Directory),
}

#[derive(Default)]
struct Session {
    handles: HashMap<String, Open>,
    next_handle: u64,
}

/// Why a request failed, as a status packet tells it.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) code: StatusCode,
    pub(super) message: String,
}

impl Failure {
    pub(super) fn new(code: StatusCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    fn eof() -> Self {
        Self::new(StatusCode::Eof, "end of file")
    }

    fn malformed() -> Self {
        Self::new(StatusCode::BadMessage, "malformed packet")
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let code = match error.kind() {
            io::ErrorKind::NotFound => StatusCode::NoSuchFile,
            io::ErrorKind::PermissionDenied => StatusCode::PermissionDenied,
            _ => StatusCode::Failure,
        };
        // "(os error 2)" helps nobody on the other side.
        let text = error.to_string();
        let text = text.split(" (os error").next().unwrap_or_default();
        Self::new(code, text.to_lowercase())
    }
}

impl Session {
    fn answer(&mut self, mut bytes: Bytes) -> Packet {
        // Type, then the request's id, in all packets but the first (whose version number is no id).
        let id = match bytes.get(..5) {
            Some([kind, id @ ..]) if *kind != 1 => u32::from_be_bytes([id[0], id[1], id[2], id[3]]),
            _ => 0,
        };
        let result = match Packet::try_from(&mut bytes) {
            Ok(packet) => self.perform(id, packet),
            Err(_) => Err(Failure::malformed()),
        };
        match result {
            Ok(Some(reply)) => reply,
            Ok(None) => Packet::status(id, StatusCode::Ok, "ok", "en"),
            Err(failure) => Packet::status(id, failure.code, &failure.message, "en"),
        }
    }

    /// `None` stands for the status "ok".
    fn perform(&mut self, id: u32, packet: Packet) -> Result<Option<Packet>, Failure> {
        match packet {
            Packet::Init(_) => {
                let mut version = Version::new();
                version.extensions = EXTENSIONS.map(|(name, value)| (name.into(), value.into())).into();
                return Ok(Some(Packet::Version(version)));
            }
            Packet::Open(open) => {
                let file = OpenFile::open(&open.filename, open.pflags, &open.attrs)?;
                return self.keep(id, Open::File(file)).map(Some);
            }
            Packet::OpenDir(open) => {
                let directory = Directory::open(&open.path)?;
                return self.keep(id, Open::Directory(directory)).map(Some);
            }
            Packet::Close(close) => {
                self.handles
                    .remove(&close.handle)
                    .ok_or_else(|| unknown(&close.handle))?;
            }
            Packet::Read(read) => {
                let data = self
                    .file(&read.handle)?
                    .read(read.offset, read.len.min(LONGEST_READ))?;
                if data.is_empty() {
                    return Err(Failure::eof());
                }
                return Ok(Some(Packet::Data(Data { id, data })));
            }
            Packet::Write(write) => self.file(&write.handle)?.write(write.offset, &write.data)?,
            Packet::ReadDir(read) => {
                let files = match self.handles.get_mut(&read.handle) {
                    Some(Open::Directory(directory)) => directory.next_entries(ENTRIES)?,
                    _ => return Err(unknown(&read.handle)),
                };
                if files.is_empty() {
                    return Err(Failure::eof());
                }
                return Ok(Some(Packet::Name(Name { id, files })));
            }
            Packet::Lstat(stat) => return attributes(id, files::lstat(&stat.path)),
            Packet::Stat(stat) => return attributes(id, files::stat(&stat.path)),
            Packet::Fstat(stat) => return attributes(id, self.file(&stat.handle)?.stat()),
            Packet::SetStat(set) => files::set_attributes(&set.path, &set.attrs)?,
            Packet::FSetStat(set) => self.file(&set.handle)?.set_attributes(&set.attrs)?,
            Packet::Remove(remove) => files::remove(&remove.filename)?,
            Packet::MkDir(make) => files::make_directory(&make.path, &make.attrs)?,
            Packet::RmDir(remove) => files::remove_directory(&remove.path)?,
            Packet::Rename(rename) => files::rename_to_new(&rename.oldpath, &rename.newpath)?,
            Packet::RealPath(real) => return name(id, files::real_path(&real.path)?),
            Packet::ReadLink(read) => return name(id, files::read_link(&read.path)?),
            // The order on the wire is the other way round than in the draft (OpenSSH's PROTOCOL, 4.1).
            Packet::Symlink(link) => files::symlink(&link.linkpath, &link.targetpath)?,
            Packet::Extended(extended) => return self.extended(id, &extended.request, extended.data.into()),
            _ => return Err(Failure::new(StatusCode::OpUnsupported, "operation not supported")),
        }
        Ok(None)
    }

    fn extended(&mut self, id: u32, request: &str, mut data: Bytes) -> Result<Option<Packet>, Failure> {
        match request {
            "posix-rename@openssh.com" => files::rename(&string(&mut data)?, &string(&mut data)?)?,
            "hardlink@openssh.com" => files::hard_link(&string(&mut data)?, &string(&mut data)?)?,
            "fsync@openssh.com" => self.file(&string(&mut data)?)?.sync()?,
            "lsetstat@openssh.com" => {
                let path = string(&mut data)?;
                let attributes = russh_sftp::de::from_bytes(&mut data).map_err(|_| Failure::malformed())?;
                files::set_link_attributes(&path, &attributes)?;
            }
            "statvfs@openssh.com" => {
                let data = files::file_system(&string(&mut data)?)?;
                return Ok(Some(Packet::ExtendedReply(ExtendedReply { id, data })));
            }
            other => {
                let message = format!("extension {other:?} not supported");
                return Err(Failure::new(StatusCode::OpUnsupported, message));
            }
        }
        Ok(None)
    }

    fn keep(&mut self, id: u32, open: Open) -> Result<Packet, Failure> {
        if self.handles.len() >= MOST_HANDLES {
            let message = format!("more than {MOST_HANDLES} open handles: close some first");
            return Err(Failure::new(StatusCode::Failure, message));
        }
        let handle = self.next_handle.to_string();
        self.next_handle += 1;
        self.handles.insert(handle.clone(), open);
        Ok(Packet::Handle(Handle { id, handle }))
    }

    fn file(&self, handle: &str) -> Result<&OpenFile, Failure> {
        match self.handles.get(handle) {
            Some(Open::File(file)) => Ok(file),
            _ => Err(unknown(handle)),
        }
    }
}

fn unknown(handle: &str) -> Failure {
    Failure::new(StatusCode::Failure, format!("no such handle {handle:?}"))
}

fn attributes(
    id: u32,
    attributes: io::Result<russh_sftp::protocol::FileAttributes>,
) -> Result<Option<Packet>, Failure> {
    Ok(Some(Packet::Attrs(Attrs {
        id,
        attrs: attributes?,
    })))
}

fn name(id: u32, path: String) -> Result<Option<Packet>, Failure> {
    Ok(Some(Packet::Name(Name {
        id,
        files: vec![Entry::dummy(path)],
    })))
}

/// A string of an extension's data: length and bytes.
fn string(data: &mut Bytes) -> Result<String, Failure> {
    let length = data.try_get_u32().map_err(|_| Failure::malformed())? as usize;
    if length > data.len() {
        return Err(Failure::malformed());
    }
    String::from_utf8(data.split_to(length).into()).map_err(|_| Failure::malformed())
}
