//! Wall time as a value. Nothing in this crate reads a clock: callers pass `now` down.

use ::time::OffsetDateTime;
use ::time::format_description::well_known::Rfc3339;

/// Seconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(i64);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a time of RFC 3339, such as 2026-11-23T21:00:00Z")]
pub struct TimeError {
    text: String,
}

impl UnixTime {
    pub const fn from_secs(secs: i64) -> Self {
        UnixTime(secs)
    }
    pub const fn as_secs(self) -> i64 {
        self.0
    }
    pub fn parse_rfc3339(text: &str) -> Result<Self, TimeError> {
        OffsetDateTime::parse(text, &Rfc3339)
            .map(|t| UnixTime(t.unix_timestamp()))
            .map_err(|_| TimeError { text: text.to_owned() })
    }
}

/// RFC 3339 in UTC; times outside years 0–9999 print as seconds.
impl std::fmt::Display for UnixTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match OffsetDateTime::from_unix_timestamp(self.0).ok().and_then(|t| t.format(&Rfc3339).ok()) {
            Some(text) => f.write_str(&text),
            None => write!(f, "{} s", self.0),
        }
    }
}

impl serde::Serialize for UnixTime {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}
