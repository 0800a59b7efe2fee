//! Times as Go writes them: RFC 3339 in UTC with as many fraction digits as needed, and a zero time that is not
//! Unix' but year 1.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Seconds between year 1 and 1970, negative: `0001-01-01T00:00:00Z`.
const ZERO_SECONDS: i64 = -62_135_596_800;

/// A moment. Its default is Go's zero time, which stands for "never".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(jiff::Timestamp);

impl Timestamp {
    /// Go's zero time, `0001-01-01T00:00:00Z`: never, not set.
    pub fn never() -> Self {
        Self(jiff::Timestamp::from_second(ZERO_SECONDS).unwrap_or(jiff::Timestamp::MIN))
    }

    /// 1970-01-01, which Incus shows as the last use of an instance that was never started.
    pub const fn unix_epoch() -> Self {
        Self(jiff::Timestamp::UNIX_EPOCH)
    }

    /// The present moment.
    pub fn now() -> Self {
        Self(jiff::Timestamp::now())
    }

    /// From seconds since 1970; what lies outside of the calendar becomes [`Self::never`].
    pub fn from_unix(seconds: i64) -> Self {
        jiff::Timestamp::from_second(seconds).map_or_else(|_| Self::never(), Self)
    }

    /// Seconds since 1970.
    pub fn as_unix(self) -> i64 {
        self.0.as_second()
    }

    /// Whether the moment is Go's zero time.
    pub fn is_never(self) -> bool {
        self == Self::never()
    }

    /// The moment as the calendar library's type.
    pub const fn as_jiff(self) -> jiff::Timestamp {
        self.0
    }
}

impl From<jiff::Timestamp> for Timestamp {
    fn from(value: jiff::Timestamp) -> Self {
        Self(value)
    }
}

impl Default for Timestamp {
    fn default() -> Self {
        Self::never()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for Timestamp {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Option::<std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        match text.as_deref() {
            None | Some("") => Ok(Self::never()),
            Some(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

#[cfg(test)]
#[path = "time_tests.rs"]
mod tests;
