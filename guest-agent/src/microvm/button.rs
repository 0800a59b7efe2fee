//! The power button.
//!
//! ACPI's button arrives as an input device that sends `KEY_POWER`. Few images run anything that listens to it,
//! so the agent does, and asks the first process to end. Where the image listens too, it is asked twice, which
//! harms nobody.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;

use super::say;
use crate::protocol::ShutdownAction;
use crate::server::shutdown::Plan;

/// From the kernel's input-event-codes.h.
const EV_KEY: u16 = 1;
const KEY_POWER: u16 = 116;

/// Size of `struct input_event` where `long` has 64 bits: two of them for the time, then type, code and value.
const EVENT: usize = 24;

/// Bytes of a bit map of all keys (`KEY_CNT` is 0x300).
const KEY_MAP: usize = 0x300 / 8;

nix::ioctl_read_buf!(supported_keys, b'E', 0x20 + EV_KEY, u8); // EVIOCGBIT(EV_KEY)

/// Watches all power buttons from a thread each.
pub(super) fn watch() {
    let Ok(devices) = std::fs::read_dir("/dev/input") else {
        return;
    };
    for device in devices
        .flatten()
        .filter(|device| device.file_name().to_string_lossy().starts_with("event"))
    {
        let Ok(file) = File::open(device.path()) else {
            continue;
        };
        if is_power_button(&file) {
            let thread = std::thread::Builder::new().name("power button".into());
            if let Err(error) = thread.spawn(move || listen(file)) {
                say(format_args!("no thread for the power button: {error}"));
            }
        }
    }
}

fn is_power_button(device: &File) -> bool {
    let mut keys = [0u8; KEY_MAP];
    // SAFETY: EVIOCGBIT writes at most as many bytes as the buffer has; the length is part of the request.
    let result = unsafe { supported_keys(device.as_raw_fd(), &mut keys) };
    result.is_ok() && keys[usize::from(KEY_POWER / 8)] & 1 << (KEY_POWER % 8) != 0
}

fn listen(mut device: File) {
    let mut event = [0; EVENT];
    while device.read_exact(&mut event).is_ok() {
        if is_press(&event) {
            let result = Plan::find(ShutdownAction::Poweroff)
                .map_err(|error| error.to_string())
                .and_then(|plan| plan.carry_out().map_err(|error| error.to_string()));
            if let Err(error) = result {
                say(format_args!("the power button was pressed, but {error}"));
            }
        }
    }
}

/// Pressed, not released (value 0) or held (2).
fn is_press(event: &[u8; EVENT]) -> bool {
    let [.., t0, t1, c0, c1, v0, v1, v2, v3] = *event;
    u16::from_ne_bytes([t0, t1]) == EV_KEY
        && u16::from_ne_bytes([c0, c1]) == KEY_POWER
        && i32::from_ne_bytes([v0, v1, v2, v3]) == 1
}

#[cfg(test)]
#[path = "button_tests.rs"]
mod tests;
