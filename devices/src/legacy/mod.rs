//! The few devices of the original PC that guests still look for: a serial port, the keyboard controller's reset line, and
//! the clock with its CMOS memory.

pub mod cmos;
pub mod i8042;
pub mod serial;
