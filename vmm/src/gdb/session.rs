//! One client, from its first packet until it goes.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use gdbstub::conn::Connection;
use gdbstub::stub::state_machine::GdbStubStateMachine;
use gdbstub::stub::{DisconnectReason, GdbStub};

use super::debuggees::Stop;
use super::target::Target;
use crate::exit::{ExitReason, ExitReport};
use crate::exit_signal::ExitSignal;

/// How long a client may take to read what it has asked for.
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);
/// The longest packet. It is told to the client; the protocol's crate would take longer ones.
const MAX_PACKET_BYTES: usize = 4096;
/// What is collected before it is sent.
const BUFFER_BYTES: usize = 4096;

/// The client's end of the socket, for writing.
pub struct Client {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl Client {
    /// A client. The stream blocks, but not for long.
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
        Ok(Self {
            stream,
            buffer: Vec::new(),
        })
    }
}

impl Connection for Client {
    type Error = io::Error;

    fn write(&mut self, byte: u8) -> io::Result<()> {
        self.buffer.push(byte);
        match self.buffer.len() {
            BUFFER_BYTES.. => self.flush(),
            _ => Ok(()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let sent = Write::write_all(&mut self.stream, &self.buffer);
        self.buffer.clear();
        sent
    }
}

type Machine = GdbStubStateMachine<'static, Target, Client>;

/// Why a session is over.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// The client has said so, or the VM ends.
    Said,
    /// The client broke a rule, or does not read.
    Faulty,
}

/// A client that is served.
pub struct Session {
    machine: Option<Machine>,
    /// Bytes of a packet so far, its checksum left out.
    packet_bytes: usize,
    exit: Arc<ExitSignal>,
}

impl Session {
    /// Begins one. The guest stands still already.
    pub fn new(client: Client, target: &mut Target, exit: Arc<ExitSignal>) -> Result<Self, End> {
        let machine = GdbStub::new(client)
            .run_state_machine(target)
            .map_err(|_| End::Faulty)?;
        Ok(Self {
            machine: Some(machine),
            packet_bytes: 0,
            exit,
        })
    }

    /// The client has sent something.
    pub fn feed(&mut self, target: &mut Target, bytes: &[u8]) -> Result<(), End> {
        for byte in bytes {
            self.packet_bytes = if *byte == b'#' { 0 } else { self.packet_bytes + 1 };
            if self.packet_bytes > MAX_PACKET_BYTES {
                return Err(End::Faulty);
            }
            let next = match self.machine.take() {
                Some(Machine::Idle(machine)) => machine.incoming_data(target, *byte),
                Some(Machine::Running(machine)) => machine.incoming_data(target, *byte),
                _ => return Err(End::Said),
            };
            self.go_on(target, next.map_err(|_| End::Faulty)?)?;
        }
        self.flush()
    }

    fn go_on(&mut self, target: &mut Target, machine: Machine) -> Result<(), End> {
        let next = match machine {
            Machine::CtrlCInterrupt(machine) => {
                let stop = target.debuggees.interrupt();
                machine
                    .interrupt_handled(target, Some(stop))
                    .map_err(|_| End::Faulty)?
            }
            Machine::Disconnected(machine) => {
                if machine.get_reason() == DisconnectReason::Kill {
                    let report = ExitReport::new(ExitReason::Killed, "killed by the debugger");
                    self.exit.raise(report);
                }
                return Err(End::Said);
            }
            machine => machine,
        };
        self.machine = Some(next);
        self.look(target)
    }

    /// Tells the client if the guest has stopped.
    pub fn look(&mut self, target: &mut Target) -> Result<(), End> {
        match self.machine.take() {
            Some(Machine::Running(machine)) => {
                self.machine = Some(match target.debuggees.look() {
                    Some(stop) => machine.report_stop(target, stop).map_err(|_| End::Faulty)?,
                    None => machine.into(),
                });
            }
            machine => self.machine = machine,
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), End> {
        let sent = match &mut self.machine {
            Some(Machine::Idle(machine)) => machine.borrow_conn().flush(),
            Some(Machine::Running(machine)) => machine.borrow_conn().flush(),
            _ => Ok(()),
        };
        sent.map_err(|_| End::Faulty)
    }

    /// The VM has ended. A client that waits for the guest is told how.
    pub fn exited(mut self, target: &mut Target) {
        let status = self
            .exit
            .report()
            .map_or(1, |report| report.reason.process_status());
        if let Some(Machine::Running(machine)) = self.machine.take() {
            // It has nothing more to say than that.
            let _ = machine.report_stop(target, Stop::Exited(u8::try_from(status).unwrap_or(1)));
        }
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
