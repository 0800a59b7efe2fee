//! Truth values as Incus reads them, and checks of single values.

use super::units;

/// Whether a text says yes: `true`, `1`, `yes`, `on` in any case.
pub fn is_true(text: &str) -> bool {
    ["true", "1", "yes", "on"]
        .iter()
        .any(|word| text.eq_ignore_ascii_case(word))
}

/// Whether a text says no: `false`, `0`, `no`, `off` in any case.
pub fn is_false(text: &str) -> bool {
    ["false", "0", "no", "off"]
        .iter()
        .any(|word| text.eq_ignore_ascii_case(word))
}

/// What a value must look like. Empty values are always right: they unset the key.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Any,
    Bool,
    Int64,
    Uint32,
    Priority,
    Size,
    /// `50%` or a size.
    Memory,
    /// A number, a range or a list of them.
    Cpus,
    /// `10%`, or `25ms/100ms`.
    CpuAllowance,
    OneOf(&'static [&'static str]),
    AbsolutePath,
}

impl Kind {
    /// Why `value` is not of this kind, if it is not.
    pub(super) fn check(self, value: &str) -> Result<(), String> {
        if value.is_empty() {
            return Ok(());
        }
        let wrong = |what: &str| Err(format!("Invalid value {value:?}: {what}"));
        match self {
            Self::Any => Ok(()),
            Self::Bool if is_true(value) || is_false(value) => Ok(()),
            Self::Bool => Err(format!("Invalid value for a boolean {value:?}")),
            Self::Int64 if value.parse::<i64>().is_ok() => Ok(()),
            Self::Int64 => Err(format!("Invalid value for an integer {value:?}")),
            Self::Uint32 if value.parse::<u32>().is_ok() => Ok(()),
            Self::Uint32 => Err(format!("Invalid value for uint32 {value:?}")),
            Self::Priority => match value.parse::<i64>() {
                Ok(0..=10) => Ok(()),
                _ => Err(format!(
                    "Invalid value for a limit {value:?}. Must be between 0 and 10"
                )),
            },
            Self::Size => units::parse_bytes(value).map(drop),
            Self::Memory => match value.strip_suffix('%') {
                Some(percent)
                    if percent
                        .parse::<u32>()
                        .is_ok_and(|percent| (1..=100).contains(&percent)) =>
                {
                    Ok(())
                }
                Some(_) => wrong("expected a percentage from 1% to 100%"),
                None => units::parse_bytes(value).map(drop),
            },
            Self::Cpus => check_cpus(value),
            Self::CpuAllowance => check_allowance(value),
            Self::OneOf(words) if words.contains(&value) => Ok(()),
            Self::OneOf(words) => wrong(&format!("expected one of {}", words.join(", "))),
            Self::AbsolutePath if value.starts_with('/') => Ok(()),
            Self::AbsolutePath => wrong("must be an absolute path"),
        }
    }
}

fn check_cpus(value: &str) -> Result<(), String> {
    let wrong = || format!("Invalid CPU limit syntax {value:?}");
    if let Ok(count) = value.parse::<u32>() {
        return if count > 0 { Ok(()) } else { Err(wrong()) };
    }
    for part in value.split(',') {
        match part.split_once('-') {
            Some((first, last)) => {
                let (first, last): (u32, u32) = (
                    first.parse().map_err(|_| wrong())?,
                    last.parse().map_err(|_| wrong())?,
                );
                if first > last {
                    return Err(wrong());
                }
            }
            None => {
                part.parse::<u32>().map_err(|_| wrong())?;
            }
        }
    }
    Ok(())
}

fn check_allowance(value: &str) -> Result<(), String> {
    let wrong = || format!("Invalid CPU allowance {value:?}: expected 50% or 25ms/100ms");
    if let Some(percent) = value.strip_suffix('%') {
        return percent
            .parse::<u32>()
            .ok()
            .filter(|&percent| percent > 0)
            .map(drop)
            .ok_or_else(wrong);
    }
    let (part, whole) = value.split_once('/').ok_or_else(wrong)?;
    for time in [part, whole] {
        let number = time
            .strip_suffix("ms")
            .and_then(|number| number.parse::<u32>().ok());
        number.filter(|&number| number > 0).ok_or_else(wrong)?;
    }
    Ok(())
}
