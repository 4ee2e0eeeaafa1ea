//! Lengths of time as people write them in flags and configuration files: `500ms`, `5s`, `15m`, `24h`, `7d`.
//!
//! A number without a unit is refused, and so is zero: a limit that may be absent is a [`Timeout`], whose `off` says so
//! in a word.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

/// More than this is a slip of the hand; it also keeps sums with a clock from overflowing.
const MAX: Duration = Duration::from_secs(3650 * 86_400);

/// Longest unit first, so that printing finds the shortest spelling.
const UNITS_MS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// A length of time that is always there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Period(Duration);

/// A limit in time that may be switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Timeout {
    After(Period),
    Off,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DurationError {
    #[error("{seen:?} is not a length of time; write a whole number with its unit: 500ms, 5s, 15m, 24h, 7d")]
    Shape { seen: String },
    #[error("{seen:?} is zero; a time is at least 1ms")]
    Zero { seen: String },
    #[error("{seen:?} is more than ten years")]
    TooLong { seen: String },
    #[error("\"off\" is not possible here: this time limit always applies")]
    NeverOff,
}

impl Period {
    pub const fn from_secs(seconds: u64) -> Self {
        assert!(seconds > 0 && seconds <= MAX.as_secs());
        Period(Duration::from_secs(seconds))
    }
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl Timeout {
    pub const fn from_secs(seconds: u64) -> Self {
        Timeout::After(Period::from_secs(seconds))
    }

    /// Runs a future under the limit; `None` where the limit came first.
    pub async fn limit<F: Future>(self, future: F) -> Option<F::Output> {
        match self {
            Timeout::Off => Some(future.await),
            Timeout::After(period) => tokio::time::timeout(period.get(), future).await.ok(),
        }
    }
}

impl FromStr for Period {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let seen = || text.to_owned();
        if text == "off" {
            return Err(DurationError::NeverOff);
        }
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let shape = || DurationError::Shape { seen: seen() };
        let (_, unit_ms) = UNITS_MS.iter().find(|(name, _)| *name == unit).ok_or_else(shape)?;
        if number.is_empty() {
            return Err(shape());
        }
        let too_long = || DurationError::TooLong { seen: seen() };
        let milliseconds = number.parse::<u64>().ok().and_then(|n| n.checked_mul(*unit_ms)).ok_or_else(too_long)?;
        match Duration::from_millis(milliseconds) {
            Duration::ZERO => Err(DurationError::Zero { seen: seen() }),
            period if period > MAX => Err(too_long()),
            period => Ok(Period(period)),
        }
    }
}

impl FromStr for Timeout {
    type Err = DurationError;
    fn from_str(text: &str) -> Result<Self, DurationError> {
        if text == "off" { Ok(Timeout::Off) } else { text.parse().map(Timeout::After) }
    }
}

impl TryFrom<String> for Period {
    type Error = DurationError;
    fn try_from(text: String) -> Result<Self, DurationError> {
        text.parse()
    }
}

impl TryFrom<String> for Timeout {
    type Error = DurationError;
    fn try_from(text: String) -> Result<Self, DurationError> {
        text.parse()
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = u64::try_from(self.0.as_millis()).expect("a period is at most ten years");
        let (name, unit_ms) =
            UNITS_MS.iter().find(|(_, unit)| milliseconds % unit == 0).expect("every number is a multiple of 1");
        write!(f, "{}{name}", milliseconds / unit_ms)
    }
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Timeout::After(period) => period.fmt(f),
            Timeout::Off => f.write_str("off"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints_each_unit() {
        for (text, milliseconds, printed) in [
            ("500ms", 500, "500ms"),
            ("5s", 5_000, "5s"),
            ("90s", 90_000, "90s"),
            ("60m", 3_600_000, "1h"),
            ("24h", 86_400_000, "1d"),
            ("1500ms", 1_500, "1500ms"),
        ] {
            let period: Period = text.parse().unwrap();
            assert_eq!(period.get(), Duration::from_millis(milliseconds));
            assert_eq!(period.to_string(), printed);
        }
    }

    #[test]
    fn refuses_what_could_be_meant_otherwise() {
        for text in ["", "5", "s", "5 s", "5S", "-5s", "5.5s", "1h30m", "5min", "never", "+5s"] {
            assert_eq!(text.parse::<Period>(), Err(DurationError::Shape { seen: text.into() }), "{text}");
        }
        assert!(matches!("0s".parse::<Period>(), Err(DurationError::Zero { .. })));
        assert!(matches!("3651d".parse::<Period>(), Err(DurationError::TooLong { .. })));
        assert!(matches!("99999999999999999999s".parse::<Period>(), Err(DurationError::TooLong { .. })));
    }

    #[test]
    fn off_is_a_word_and_only_where_it_is_allowed() {
        assert_eq!("off".parse::<Timeout>(), Ok(Timeout::Off));
        assert_eq!("off".parse::<Period>(), Err(DurationError::NeverOff));
        assert!("0s".parse::<Timeout>().is_err());
        assert_eq!("10m".parse::<Timeout>().unwrap().to_string(), "10m");
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_ends_what_takes_longer() {
        let minute = || tokio::time::sleep(Duration::from_secs(60));
        assert!(Timeout::from_secs(59).limit(minute()).await.is_none());
        assert!(Timeout::from_secs(61).limit(minute()).await.is_some());
        assert!(Timeout::Off.limit(minute()).await.is_some());
    }
}
