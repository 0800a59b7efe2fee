//! Sizes and durations as people write them.

use std::time::Duration;

/// Reads a size: `512MiB`, `10GB`, `1024`. Units are those of Incus; decimal and binary ones differ.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number
        .parse()
        .map_err(|_| format!("Invalid value for a size {text:?}"))?;
    let factor: u64 = match unit.trim_start() {
        "" | "B" | " bytes" | "bytes" => 1,
        "kB" => 1000,
        "MB" => 1000_u64.pow(2),
        "GB" => 1000_u64.pow(3),
        "TB" => 1000_u64.pow(4),
        "PB" => 1000_u64.pow(5),
        "EB" => 1000_u64.pow(6),
        "KiB" | "k" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "PiB" => 1 << 50,
        "EiB" => 1 << 60,
        _ => {
            return Err(format!(
                "Invalid value for a size {text:?}: unknown unit {:?}",
                unit.trim_start()
            ));
        }
    };
    number
        .checked_mul(factor)
        .ok_or_else(|| format!("Invalid value for a size {text:?}: too large"))
}

/// Reads a life span as Incus writes them: `1M 2H 3d 4w 5m 6y` (minutes, hours, days, weeks, months, years).
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("Invalid expiry expression {text:?}");
    let mut seconds: u64 = 0;
    for part in text.split_whitespace() {
        let (number, unit) = part
            .split_at_checked(part.len().wrapping_sub(1))
            .ok_or_else(wrong)?;
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let factor: u64 = match unit {
            "S" => 1,
            "M" => 60,
            "H" => 3600,
            "d" => 86_400,
            "w" => 7 * 86_400,
            "m" => 30 * 86_400,
            "y" => 365 * 86_400,
            _ => return Err(wrong()),
        };
        seconds = number
            .checked_mul(factor)
            .and_then(|more| seconds.checked_add(more))
            .ok_or_else(wrong)?;
    }
    Ok(Duration::from_secs(seconds))
}
