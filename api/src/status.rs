//! Incus' status codes: one number space for operations, instances and results.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What state an operation or an instance is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
#[allow(missing_docs, reason = "the names are the documentation")]
pub enum StatusCode {
    OperationCreated = 100,
    Started = 101,
    Stopped = 102,
    Running = 103,
    Cancelling = 104,
    Pending = 105,
    Starting = 106,
    Stopping = 107,
    Aborting = 108,
    Freezing = 109,
    Frozen = 110,
    Thawed = 111,
    Error = 112,
    Ready = 113,
    Success = 200,
    Failure = 400,
    Cancelled = 401,
}

impl StatusCode {
    const ALL: [Self; 17] = [
        Self::OperationCreated,
        Self::Started,
        Self::Stopped,
        Self::Running,
        Self::Cancelling,
        Self::Pending,
        Self::Starting,
        Self::Stopping,
        Self::Aborting,
        Self::Freezing,
        Self::Frozen,
        Self::Thawed,
        Self::Error,
        Self::Ready,
        Self::Success,
        Self::Failure,
        Self::Cancelled,
    ];

    /// The number on the wire.
    pub const fn code(self) -> u16 {
        self as u16
    }

    /// The word on the wire.
    pub const fn text(self) -> &'static str {
        match self {
            Self::OperationCreated => "Operation created",
            Self::Started => "Started",
            Self::Stopped => "Stopped",
            Self::Running => "Running",
            Self::Cancelling => "Cancelling",
            Self::Pending => "Pending",
            Self::Starting => "Starting",
            Self::Stopping => "Stopping",
            Self::Aborting => "Aborting",
            Self::Freezing => "Freezing",
            Self::Frozen => "Frozen",
            Self::Thawed => "Thawed",
            Self::Error => "Error",
            Self::Ready => "Ready",
            Self::Success => "Success",
            Self::Failure => "Failure",
            Self::Cancelled => "Cancelled",
        }
    }

    /// The state with a number, when there is one.
    pub fn from_code(code: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.code() == code)
    }

    /// Whether an operation in this state will not change any more.
    pub const fn is_final(self) -> bool {
        self.code() >= 200
    }
}

impl Serialize for StatusCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u16(self.code())
    }
}

impl<'de> Deserialize<'de> for StatusCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = u16::deserialize(deserializer)?;
        Self::from_code(code).ok_or_else(|| serde::de::Error::custom(format!("unknown status code {code}")))
    }
}
