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

/// How far the clock here may be behind that of an issuer. AWS issues the certificate of a NitroTPM document when the
/// document is asked for and does not backdate it, so a clock that is a few seconds slow would refuse every fresh document.
pub const CLOCK_LEEWAY_SECS: i64 = 60;

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
    /// Whether what is stamped with this time counts at `now`, by a clock that may be up to [`CLOCK_LEEWAY_SECS`] slow.
    ///
    /// Only for beginnings. An end has no leeway: an issuer who says until when something holds means it, and a minute more
    /// would be a minute in which a revocation is not yet seen.
    pub const fn has_begun(self, now: UnixTime) -> bool {
        self.0 <= now.0.saturating_add(CLOCK_LEEWAY_SECS)
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
    fn what_begins_within_the_leeway_has_begun_and_nothing_later_has() {
        let now = UnixTime::from_secs(1_800_000_000);
        let begun = |ahead| UnixTime::from_secs(now.as_secs() + ahead).has_begun(now);
        assert_eq!([-1, 0, CLOCK_LEEWAY_SECS, CLOCK_LEEWAY_SECS + 1].map(begun), [true, true, true, false]);
        assert!(UnixTime::from_secs(i64::MAX).has_begun(UnixTime::from_secs(i64::MAX)));
    }

    #[test]
    fn proto_p2_a_clock_before_the_release_is_refused() {
        assert_eq!(RELEASE_DATE, UnixTime::parse_rfc3339("2026-11-23T00:00:00Z").unwrap());
        let before = UnixTime::from_secs(RELEASE_DATE.as_secs() - 1);
        assert_eq!(before.check_clock(), Err(ClockBeforeRelease { seen: before }));
        assert_eq!(RELEASE_DATE.check_clock(), Ok(()));
    }
}
