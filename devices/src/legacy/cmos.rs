//! The real-time clock and CMOS memory (MC146818 at ports 0x70 and 0x71), read-only in effect: it tells the host's time in
//! UTC. Linux reads it once at boot where there is no better clock.

use crate::bus::BusDevice;
use std::time::{SystemTime, UNIX_EPOCH};

/// First port.
pub const BASE: u64 = 0x70;
/// Index and data port.
pub const SIZE: u64 = 2;

/// Status register A: oscillator running, no update in progress.
const STATUS_A: u8 = 0x26;
/// Status register B: 24 hours, values in binary.
const STATUS_B: u8 = 0x06;
/// Status register D: the battery is good.
const STATUS_D: u8 = 0x80;
/// Registers of the chip; the port's eighth bit masks NMIs and is not part of the index.
const REGISTERS: usize = 128;

/// The clock.
pub struct Cmos {
    index: u8,
    memory: [u8; REGISTERS],
    now: Box<dyn Fn() -> u64 + Send>,
}

impl Cmos {
    /// Makes a clock that tells the host's time. `low_memory` and `high_memory` are the bytes of guest memory below and
    /// above 4 GiB, for firmware that asks here.
    pub fn new(low_memory: u64, high_memory: u64) -> Self {
        Self::with_clock(low_memory, high_memory, Box::new(seconds_since_epoch))
    }

    fn with_clock(low_memory: u64, high_memory: u64, now: Box<dyn Fn() -> u64 + Send>) -> Self {
        let mut memory = [0; REGISTERS];
        let mut put = |register: usize, value: u64, bytes: usize| {
            for (cell, byte) in memory
                .iter_mut()
                .skip(register)
                .take(bytes)
                .zip(value.to_le_bytes())
            {
                *cell = byte;
            }
        };
        // Memory above 16 MiB in 64 KiB units, at most what 16 bits hold, and above 4 GiB in the same units (SeaBIOS' and
        // OVMF's convention).
        put(0x34, (low_memory.saturating_sub(16 << 20) >> 16).min(0xffff), 2);
        put(0x5b, high_memory >> 16, 3);
        Self {
            index: 0,
            memory,
            now,
        }
    }

    fn register(&self) -> u8 {
        let time = Time::from_seconds((self.now)());
        match self.index {
            0x00 => time.second,
            0x02 => time.minute,
            0x04 => time.hour,
            0x06 => time.weekday,
            0x07 => time.day,
            0x08 => time.month,
            0x09 => (time.year % 100) as u8,
            0x0a => STATUS_A,
            0x0b => STATUS_B,
            0x0d => STATUS_D,
            0x32 => (time.year / 100) as u8,
            index => self.memory.get(usize::from(index)).copied().unwrap_or(0),
        }
    }
}

impl BusDevice for Cmos {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0xff);
        if let (1, Some(byte)) = (offset, data.first_mut()) {
            *byte = self.register();
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        match (offset, data) {
            (0, [index, ..]) => self.index = index & 0x7f,
            (1, [value]) => {
                if let Some(cell) = self.memory.get_mut(usize::from(self.index)) {
                    *cell = *value;
                }
            }
            _ => {}
        }
    }
}

fn seconds_since_epoch() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// A date and time in UTC.
#[derive(Debug, PartialEq, Eq)]
struct Time {
    year: u64,
    month: u8,
    day: u8,
    /// 1 is Sunday.
    weekday: u8,
    hour: u8,
    minute: u8,
    second: u8,
}

impl Time {
    /// From seconds since 1970 by the proleptic Gregorian calendar: whole eras of 400 years, which all have 146,097 days,
    /// with years counted from March so that the leap day comes last.
    fn from_seconds(seconds: u64) -> Self {
        let (days, rest) = (seconds / 86_400, seconds % 86_400);
        // Days since 1 March of the year 0.
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        // Months since March; 153 days are five months.
        let month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        // All of these are small by the arithmetic above.
        Self {
            year,
            month: month as u8,
            day: day as u8,
            weekday: ((days + 4) % 7 + 1) as u8,
            hour: (rest / 3_600) as u8,
            minute: (rest / 60 % 60) as u8,
            second: (rest % 60) as u8,
        }
    }
}

#[cfg(test)]
#[path = "cmos_tests.rs"]
mod tests;
