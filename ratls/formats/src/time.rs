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

/// The date of this release, 2026-11-23. No correct clock shows an earlier time; raised with each release.
pub const RELEASE_DATE: UnixTime = UnixTime(1_795_392_000);

/// The clock is wrong for certain: certificates that have long expired would pass for valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system clock shows {seen}, which is before this program was released ({RELEASE_DATE}); set the clock")]
pub struct ClockBeforeRelease {
    pub seen: UnixTime,
}

impl UnixTime {
    /// For a program's start, with the time of the system's clock. Times that a user gives (`--at`) are not checked.
    pub fn check_clock(self) -> Result<(), ClockBeforeRelease> {
        if self < RELEASE_DATE { Err(ClockBeforeRelease { seen: self }) } else { Ok(()) }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proto_p2_a_clock_before_the_release_is_refused() {
        assert_eq!(RELEASE_DATE, UnixTime::parse_rfc3339("2026-11-23T00:00:00Z").unwrap());
        let before = UnixTime::from_secs(RELEASE_DATE.as_secs() - 1);
        assert_eq!(before.check_clock(), Err(ClockBeforeRelease { seen: before }));
        assert_eq!(RELEASE_DATE.check_clock(), Ok(()));
    }
}
