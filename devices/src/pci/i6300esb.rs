//! The watchdog of Intel's 6300ESB I/O controller hub (datasheet 300641, §16), for which guests have a driver.
//!
//! The timer has two stages. When the first runs out the device could interrupt; ours only begins the second, as the guest's
//! driver asks for. When the second runs out the machine resets, unless the guest has said that it must not. Every write that
//! matters has to be preceded by two others, the unlock sequence, so that a guest gone astray does not feed the watchdog.
//!
//! The vCPU that writes arms the timer descriptor; whoever runs the machine waits for it and calls [`Watchdog::elapsed`].

use super::PciDevice;
use super::config::{Bar, Config, ConfigError, Identity};
use serde::{Deserialize, Serialize};
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};
use vmm_sys_util::timerfd::TimerFd;

/// Configuration: interrupt type, clock and reset output (§16.4.10), 16 bits.
const CONFIGURATION: u16 = 0x60;
/// Configuration: the clock is the fast one.
const FAST_CLOCK: u16 = 1 << 2;
/// Configuration: no reset when the second stage runs out.
const NO_RESET: u16 = 1 << 5;
/// Lock (§16.4.11), 8 bits.
const LOCK: u16 = 0x68;
/// Lock: the register cannot be changed until the machine is reset.
const LOCKED: u8 = 1 << 0;
/// Lock: the watchdog runs.
const ENABLED: u8 = 1 << 1;
/// Lock: the timer runs free, and what it reaches means nothing.
const FREE_RUNNING: u8 = 1 << 2;

/// Registers in the BAR (§16.5): preload values of the stages, interrupt status, reload.
const PRELOAD_1: u64 = 0x00;
const PRELOAD_2: u64 = 0x04;
const RELOAD: u64 = 0x0c;
/// Preload values have 20 bits.
const PRELOAD_MASK: u32 = 0xf_ffff;
/// Reload: start again from the first stage.
const RELOAD_TIMER: u16 = 1 << 8;
/// Reload: the last reset was the watchdog's doing; writing one clears it.
const TIMED_OUT: u16 = 1 << 9;
/// The unlock sequence, written to the reload register.
const UNLOCK: [u16; 2] = [0x80, 0x86];
/// The PCI clock that drives the timer, divided by 2¹⁵ or 2⁵.
const CLOCK_MHZ: u64 = 33;

const BAR: Bar = Bar { index: 0, size: 16 };

/// What a snapshot holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Configuration space.
    pub config: Vec<u8>,
    /// Preload values.
    pub preload: [u32; 2],
    /// How much of the unlock sequence was written.
    pub unlocked: u8,
    /// Whether the second stage runs.
    pub second_stage: bool,
    /// Time until the stage that runs is over, if one does.
    pub left_us: Option<u64>,
    /// Whether the second stage has run out since the guest looked.
    pub timed_out: bool,
}

/// The watchdog.
pub struct Watchdog {
    config: Config,
    timer: TimerFd,
    preload: [u32; 2],
    /// Writes of the unlock sequence so far.
    unlocked: u8,
    second_stage: bool,
    /// When the stage that runs is over.
    deadline: Option<Instant>,
    /// What was left when the machine was paused.
    paused: Option<Duration>,
    timed_out: bool,
}

/// Why a watchdog could not be made or restored.
#[derive(Debug, thiserror::Error)]
pub enum WatchdogError {
    /// Its configuration space.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The timer.
    #[error("cannot get a timer: {0}")]
    Timer(vmm_sys_util::errno::Error),
    /// A saved state is not that of a watchdog.
    #[error("the saved state is not that of a watchdog")]
    State,
}

impl Watchdog {
    /// A watchdog that the guest has not started.
    pub fn new() -> Result<Self, WatchdogError> {
        let mut config = Config::new(Identity {
            vendor: 0x8086,
            device: 0x25ab,
            revision: 0,
            class: [0x08, 0x80, 0x00],
            subsystem_vendor: 0x1af4,
            subsystem: 0x1100,
        });
        config.add_bar(BAR)?;
        config.add_registers(CONFIGURATION, &[0; 2], &[0x27, 0]);
        config.add_registers(LOCK, &[0], &[LOCKED | ENABLED | FREE_RUNNING]);
        Ok(Self {
            config,
            timer: TimerFd::new().map_err(WatchdogError::Timer)?,
            preload: [PRELOAD_MASK; 2],
            unlocked: 0,
            second_stage: false,
            deadline: None,
            paused: None,
            timed_out: false,
        })
    }

    /// Makes the watchdog again as it was saved; it stands still until it is resumed.
    pub fn restore(state: State) -> Result<Self, WatchdogError> {
        let mut watchdog = Self::new()?;
        if !watchdog.config.restore(&state.config) {
            return Err(WatchdogError::State);
        }
        watchdog.preload = state.preload.map(|value| value & PRELOAD_MASK);
        watchdog.unlocked = state.unlocked.min(2);
        watchdog.second_stage = state.second_stage;
        watchdog.paused = state.left_us.map(Duration::from_micros);
        watchdog.timed_out = state.timed_out;
        Ok(watchdog)
    }

    /// What a snapshot holds.
    pub fn save(&self) -> State {
        let left = self
            .paused
            .or_else(|| Some(self.deadline?.saturating_duration_since(Instant::now())));
        State {
            config: self.config.save(),
            preload: self.preload,
            unlocked: self.unlocked,
            second_stage: self.second_stage,
            left_us: left.map(|left| u64::try_from(left.as_micros()).unwrap_or(u64::MAX)),
            timed_out: self.timed_out,
        }
    }

    /// The timer's descriptor, readable when [`elapsed`](Self::elapsed) has something to do.
    pub fn timer_fd(&self) -> RawFd {
        self.timer.as_raw_fd()
    }

    /// The timer ran out. Returns whether the machine is to be reset.
    pub fn elapsed(&mut self) -> bool {
        // A write of the guest may have come first and armed it anew.
        if self.deadline.is_none_or(|deadline| Instant::now() < deadline) {
            return false;
        }
        if !self.second_stage {
            self.second_stage = true;
            self.begin_stage();
            return false;
        }
        self.stop();
        if self.lock_register() & FREE_RUNNING != 0 {
            self.restart();
            return false;
        }
        self.timed_out = true;
        self.configuration() & NO_RESET == 0
    }

    /// Time stands still for the guest.
    pub fn pause(&mut self) {
        if let Some(deadline) = self.deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            self.stop();
            self.paused = Some(left);
        }
    }

    /// And goes on.
    pub fn resume(&mut self) {
        if let Some(left) = self.paused.take() {
            self.arm(left);
        }
    }

    fn configuration(&self) -> u16 {
        let mut bytes = [0; 2];
        self.config.read(CONFIGURATION, &mut bytes);
        u16::from_le_bytes(bytes)
    }

    fn lock_register(&self) -> u8 {
        let mut byte = [0];
        self.config.read(LOCK, &mut byte);
        let [byte] = byte;
        byte
    }

    fn arm(&mut self, after: Duration) {
        // A timer of zero length would be one that is off.
        let after = after.max(Duration::from_micros(1));
        self.deadline = Instant::now().checked_add(after);
        if let Err(error) = self.timer.reset(after, None) {
            tracing::warn!(%error, "the watchdog's timer cannot be set");
        }
    }

    fn stop(&mut self) {
        self.deadline = None;
        self.paused = None;
        if let Err(error) = self.timer.clear() {
            tracing::warn!(%error, "the watchdog's timer cannot be stopped");
        }
    }

    fn begin_stage(&mut self) {
        let [first, second] = self.preload;
        let ticks = if self.second_stage { second } else { first };
        let shift = if self.configuration() & FAST_CLOCK == 0 {
            15
        } else {
            5
        };
        // At most 2^35 clocks: no overflow.
        let clocks = u64::from(ticks) << shift;
        self.arm(Duration::from_nanos(clocks * 1000 / CLOCK_MHZ));
    }

    /// From the first stage on, if the watchdog runs.
    fn restart(&mut self) {
        self.second_stage = false;
        match self.lock_register() & ENABLED != 0 {
            true => self.begin_stage(),
            false => self.stop(),
        }
    }

    fn write_reload(&mut self, value: u16) {
        let [first, second] = UNLOCK;
        let unlocked = self.unlocked;
        self.unlocked = match (value, unlocked) {
            (value, _) if value == first => 1,
            (value, 1) if value == second => 2,
            _ => 0,
        };
        if unlocked == 2 {
            if value & RELOAD_TIMER != 0 {
                self.restart();
            }
            if value & TIMED_OUT != 0 {
                self.timed_out = false;
            }
        }
    }
}

impl PciDevice for Watchdog {
    fn config(&self) -> &Config {
        &self.config
    }

    fn config_mut(&mut self) -> &mut Config {
        &mut self.config
    }

    fn write_config(&mut self, offset: u16, data: &[u8]) {
        let before = self.lock_register();
        self.config.write(offset, data);
        let after = self.lock_register();
        if before & LOCKED != 0 {
            // Once it is locked the register stays as it is.
            self.config.set_byte(LOCK, before);
        } else if (before ^ after) & ENABLED != 0 {
            self.restart();
        }
    }

    fn read_bar(&mut self, _bar: u8, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if offset == RELOAD && self.timed_out {
            let bytes = TIMED_OUT.to_le_bytes();
            data.iter_mut().zip(bytes).for_each(|(byte, value)| *byte = value);
        }
    }

    fn write_bar(&mut self, _bar: u8, offset: u64, data: &[u8]) {
        let mut bytes = [0; 4];
        bytes.iter_mut().zip(data).for_each(|(byte, new)| *byte = *new);
        let value = u32::from_le_bytes(bytes);
        match offset {
            PRELOAD_1 | PRELOAD_2 if self.unlocked == 2 => {
                let [first, second] = &mut self.preload;
                let preload = if offset == PRELOAD_1 { first } else { second };
                *preload = value & PRELOAD_MASK;
                self.unlocked = 0;
            }
            // Written with 16 bits.
            RELOAD => self.write_reload(value as u16),
            _ => {}
        }
    }
}

#[cfg(test)]
#[path = "i6300esb_tests.rs"]
mod tests;
