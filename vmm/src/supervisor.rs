//! The control thread's event loop: serves the control socket and the console until the VM ends, and ends it.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signalfd::SignalFd;
use nix::unistd::{UnlinkatFlags, unlinkat};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

use crate::console::{Console, Output};
use crate::control::api;
use crate::control::server::{Next, Server};
use crate::exit::{ExitReason, ExitReport};
use crate::exit_signal::ExitSignal;
use crate::footprint;
use crate::machine::Machine;
use crate::watchdog::Watchdog;

const TOKEN_SIGNAL: u64 = 1;
const TOKEN_EXIT: u64 = 2;
const TOKEN_CONTROL: u64 = 3;
const TOKEN_CONSOLE: u64 = 4;
const TOKEN_OUTPUT: u64 = 5;
const TOKEN_HVC: u64 = 6;
const TOKEN_INPUT_WANTED: u64 = 7;
const TOKEN_LET_GO: u64 = 8;
const TOKEN_WATCHDOG: u64 = 9;
/// Once nothing has happened for so long, the start is over.
const SETTLED: Duration = Duration::from_millis(30);
/// Connections and console clients have their number in the low half.
const CONNECTION: u64 = 1 << 32;
const CLIENT: u64 = 2 << 32;
const NUMBER: u64 = 0xffff_ffff;

/// What the event loop waits for, apart from the machine itself.
pub struct Parts {
    /// The control socket.
    pub server: Server,
    /// The console.
    pub console: Console,
    /// What the serial port prints.
    pub output: Arc<Output>,
    /// Signalled when the serial port has room for input.
    pub input_wanted: Arc<EventFd>,
    /// Raised by whoever ends the VM.
    pub exit: Arc<ExitSignal>,
    /// Signals that end the VM.
    pub signals: SignalFd,
    /// The run directory.
    pub run_dir: File,
    /// Names of sockets in it, to remove at the end.
    pub sockets: Vec<OsString>,
}

/// The event loop and what it owns.
pub struct Supervisor {
    machine: Machine,
    epoll: Epoll,
    parts: Parts,
}

impl Supervisor {
    /// Prepares the loop.
    pub fn new(machine: Machine, parts: Parts) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let console = &parts.console;
        let watched = [
            (Some(parts.signals.as_raw_fd()), TOKEN_SIGNAL),
            (Some(parts.exit.event().as_raw_fd()), TOKEN_EXIT),
            (Some(parts.server.fd()), TOKEN_CONTROL),
            (console.listener_fd(), TOKEN_CONSOLE),
            (Some(parts.output.event().as_raw_fd()), TOKEN_OUTPUT),
            (console.hvc_fd(), TOKEN_HVC),
            (Some(parts.input_wanted.as_raw_fd()), TOKEN_INPUT_WANTED),
            (machine.let_go_event().map(AsRawFd::as_raw_fd), TOKEN_LET_GO),
            (machine.watchdog().map(Watchdog::timer_fd), TOKEN_WATCHDOG),
        ];
        for (fd, token) in watched {
            if let Some(fd) = fd {
                epoll.ctl(ControlOperation::Add, fd, EpollEvent::new(EventSet::IN, token))?;
            }
        }
        Ok(Self {
            machine,
            epoll,
            parts,
        })
    }

    /// Serves until the VM ends. Returns why it did.
    pub fn serve(mut self) -> ExitReport {
        let mut events = [EpollEvent::default(); 32];
        let mut settling = Some(SETTLED);
        while !self.parts.exit.is_raised() {
            let late = self.turn_away_late();
            let patience = [settling, late].into_iter().flatten().min();
            // Rounded up, lest it looks for late ones too early, over and over.
            let patience_ms = patience.map_or(-1, |time| time.as_millis() as i32 + 1);
            let count = match self.epoll.wait(patience_ms, &mut events) {
                Ok(0) => {
                    if settling.take().is_some()
                        && let Err(error) = footprint::let_go_of_program()
                    {
                        tracing::warn!(%error, "what only the start needed stays in memory");
                    }
                    continue;
                }
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let message = format!("the event loop cannot wait: {error}");
                    self.parts.exit.raise(ExitReport::new(ExitReason::Error, message));
                    break;
                }
            };
            for event in events.get(..count).unwrap_or_default() {
                self.handle(event.data(), event.event_set());
            }
            self.sync_console();
        }
        self.end()
    }

    fn handle(&mut self, token: u64, ready: EventSet) {
        let console = &mut self.parts.console;
        match token {
            TOKEN_SIGNAL => self.signalled(),
            TOKEN_CONTROL => {
                if let Some((number, fd)) = self.parts.server.accept() {
                    self.wait_for(
                        ControlOperation::Add,
                        fd,
                        EventSet::IN,
                        CONNECTION | u64::from(number),
                    );
                }
            }
            TOKEN_CONSOLE => drop(console.accept()),
            TOKEN_OUTPUT => console.pump_serial(),
            TOKEN_HVC => {
                console.pump_hvc();
            }
            TOKEN_INPUT_WANTED => {
                // Only fails when another event of this round has read it.
                let _ = self.parts.input_wanted.read();
                console.feed();
            }
            TOKEN_WATCHDOG => {
                if let Some(report) = self.machine.watchdog().and_then(Watchdog::elapsed) {
                    self.parts.exit.raise(report);
                }
            }
            TOKEN_LET_GO => self.machine.finish_removals(),
            token if token & CONNECTION != 0 => self.serve_connection((token & NUMBER) as u32),
            token if token & CLIENT != 0 => {
                let number = (token & NUMBER) as u32;
                if ready.contains(EventSet::OUT) {
                    console.write_to(number);
                }
                if ready.intersects(EventSet::IN | EventSet::HANG_UP | EventSet::ERROR) {
                    console.read_from(number);
                }
            }
            // The end is looked at after each round.
            _ => {}
        }
    }

    fn wait_for(&self, operation: ControlOperation, fd: RawFd, events: EventSet, token: u64) {
        if let Err(error) = self.epoll.ctl(operation, fd, EpollEvent::new(events, token)) {
            tracing::warn!(%error, token, "cannot wait for a client");
        }
    }

    fn sync_console(&mut self) {
        let epoll = &self.epoll;
        self.parts.console.sync(&mut |number, fd, operation, events| {
            let event = EpollEvent::new(events, CLIENT | u64::from(number));
            if let Err(error) = epoll.ctl(operation, fd, event) {
                tracing::warn!(%error, number, "cannot wait for a console client");
            }
        });
    }

    fn serve_connection(&mut self, number: u32) {
        let (machine, exit) = (&mut self.machine, &self.parts.exit);
        let next = self.parts.server.serve(number, &mut |request, files| {
            api::handle(machine, exit, request, files)
        });
        if next == Next::Write
            && let Some(fd) = self.parts.server.connection_fd(number)
        {
            let token = CONNECTION | u64::from(number);
            self.wait_for(ControlOperation::Modify, fd, EventSet::OUT, token);
        }
    }

    /// Turns away clients that take too long. Returns how long the next one may still take.
    fn turn_away_late(&mut self) -> Option<Duration> {
        loop {
            let (number, left) = self.parts.server.oldest(Instant::now())?;
            if !left.is_zero() {
                return Some(left);
            }
            // It may be this thread that took long, over another request.
            self.serve_connection(number);
            self.parts.server.forget(number);
        }
    }

    fn signalled(&mut self) {
        if let Ok(Some(info)) = self.parts.signals.read_signal() {
            let message = format!(
                "stopped by signal {} from process {}",
                info.ssi_signo, info.ssi_pid
            );
            self.parts
                .exit
                .raise(ExitReport::new(ExitReason::Killed, message));
        }
    }

    fn end(mut self) -> ExitReport {
        self.machine.stopping();
        self.parts.server.finish();
        let still = self.machine.end();
        self.parts.console.finish();
        for name in &self.parts.sockets {
            // What cannot be removed is replaced by the next start.
            let _ = unlinkat(&self.parts.run_dir, name.as_os_str(), UnlinkatFlags::NoRemoveDir);
        }
        let mut report = self.parts.exit.report().unwrap_or_else(|| {
            ExitReport::new(ExitReason::Error, "the control thread ended without a reason")
        });
        if !still {
            report.message.push_str("; a vCPU did not leave the guest");
        }
        report
    }
}
