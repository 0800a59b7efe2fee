//! The debugger's thread: listens, serves one client, turns others away, and ends with the VM.

use std::io::{self, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use super::debuggees::Debuggees;
use super::link::Link;
use super::session::{Client, End, Session};
use super::target::Target;
use crate::exit::{ExitReason, ExitReport};
use crate::exit_signal::ExitSignal;
use crate::memory::Ram;
use crate::sandbox::seccomp::{Filters, ThreadKind};

/// What is read at once.
const READ_BYTES: usize = 1024;
/// How packets begin. Nothing else is a debugger's first byte, but for what it acknowledges.
const PACKET: u8 = b'$';
const ACK: u8 = b'+';

const TOKEN_EXIT: u64 = 1;
const TOKEN_WAKE: u64 = 2;
const TOKEN_LISTENER: u64 = 3;
const TOKEN_CLIENT: u64 = 4;

/// Someone who has connected.
struct Connected {
    stream: UnixStream,
    /// From the first packet on.
    session: Option<Session>,
}

struct Server {
    epoll: Epoll,
    listener: UnixListener,
    link: Arc<Link>,
    exit: Arc<ExitSignal>,
    target: Target,
    client: Option<Connected>,
}

/// A handle on the thread.
pub struct Debugger {
    /// What others share with it.
    pub link: Arc<Link>,
    ended: Receiver<()>,
}

impl Debugger {
    /// Starts the thread.
    pub fn start(
        listener: UnixListener,
        link: Arc<Link>,
        memory: Ram,
        exit: Arc<ExitSignal>,
        filters: Filters,
    ) -> io::Result<Self> {
        let debuggees = Debuggees::new(memory, link.clone(), exit.clone());
        let mut server = Server {
            epoll: Epoll::new()?,
            listener,
            link: link.clone(),
            exit,
            target: Target::new(debuggees),
            client: None,
        };
        let watched = [
            (server.exit.event().as_raw_fd(), TOKEN_EXIT),
            (server.link.wake_event().as_raw_fd(), TOKEN_WAKE),
            (server.listener.as_raw_fd(), TOKEN_LISTENER),
        ];
        for (fd, token) in watched {
            server.wait_for(fd, token)?;
        }
        let (alive, ended): (SyncSender<()>, _) = sync_channel(0);
        std::thread::Builder::new()
            .name("gdb".into())
            .stack_size(256 << 10)
            .spawn(move || {
                let _alive = alive;
                if let Err(error) = filters.install(ThreadKind::Debugger) {
                    let message =
                        format!("cannot install the system call filter of the debugger's thread: {error}");
                    server.exit.raise(ExitReport::new(ExitReason::Error, message));
                }
                server.serve();
            })?;
        Ok(Self { link, ended })
    }

    /// Waits until the thread has ended, as it does when the VM has, but not for long.
    pub fn wait(&self, patience: Duration) {
        // It sends nothing: the other end goes.
        let _ = self.ended.recv_timeout(patience);
    }
}

impl Server {
    fn wait_for(&self, fd: RawFd, token: u64) -> io::Result<()> {
        let event = EpollEvent::new(EventSet::IN, token);
        self.epoll.ctl(ControlOperation::Add, fd, event)
    }

    fn serve(&mut self) {
        while !self.exit.is_raised() {
            if let Err(error) = self.wait_and_handle() {
                let message = format!("the debugger's thread cannot wait: {error}");
                self.exit.raise(ExitReport::new(ExitReason::Error, message));
            }
        }
        if let Some(session) = self.client.take().and_then(|client| client.session) {
            session.exited(&mut self.target);
        }
    }

    fn wait_and_handle(&mut self) -> io::Result<()> {
        let mut events = [EpollEvent::default(); 4];
        let count = match self.epoll.wait(-1, &mut events) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            waited => waited?,
        };
        let ready = events.get(..count).unwrap_or_default();
        let is_ready = |token| ready.iter().any(|event| event.data() == token);
        if is_ready(TOKEN_WAKE) {
            // Only fails when there is nothing to read.
            let _ = self.link.wake_event().read();
            let target = &mut self.target;
            let session = self.client.as_mut().and_then(|client| client.session.as_mut());
            if let Some(Err(end)) = session.map(|session| session.look(target)) {
                self.leave(end);
            }
        }
        if is_ready(TOKEN_CLIENT)
            && let Err(end) = self.read()
        {
            self.leave(end);
        }
        if is_ready(TOKEN_LISTENER) {
            self.accept();
        }
        Ok(())
    }

    fn accept(&mut self) {
        let Ok((stream, _)) = self.listener.accept() else {
            return;
        };
        if self.client.is_some() {
            self.link.metrics.refused.increment();
            tracing::info!("a debugger is there already; another one is turned away");
        } else if self.wait_for(stream.as_raw_fd(), TOKEN_CLIENT).is_ok() {
            self.client = Some(Connected {
                stream,
                session: None,
            });
        }
    }

    fn read(&mut self) -> Result<(), End> {
        let Some(client) = &mut self.client else {
            return Ok(());
        };
        let mut buffer = [0; READ_BYTES];
        let len = match client.stream.read(&mut buffer) {
            Ok(0) | Err(_) => return Err(End::Said),
            Ok(len) => len,
        };
        let mut bytes = buffer.get(..len).unwrap_or_default();
        if client.session.is_none() {
            while let Some((&ACK, rest)) = bytes.split_first() {
                bytes = rest;
            }
            match bytes.first() {
                None => return Ok(()),
                Some(&PACKET) => {}
                Some(_) => return Err(End::Faulty),
            }
            let stream = client.stream.try_clone().map_err(|_| End::Faulty)?;
            let writer = Client::new(stream).map_err(|_| End::Faulty)?;
            tracing::info!("a debugger has come");
            self.link.metrics.clients.increment();
            self.target.debuggees.halt();
            client.session = Some(Session::new(writer, &mut self.target, self.exit.clone())?);
        }
        match &mut client.session {
            Some(session) => session.feed(&mut self.target, bytes),
            None => Ok(()),
        }
    }

    fn leave(&mut self, end: End) {
        if end == End::Faulty {
            self.link.metrics.faulty.increment();
            tracing::warn!(
                "a debugger's client breaks the protocol's rules, or does not read; it is sent away"
            );
        }
        let had_session = self.client.take().is_some_and(|client| client.session.is_some());
        if had_session {
            tracing::info!("the debugger has gone");
            self.target.debuggees.leave();
        }
    }
}
