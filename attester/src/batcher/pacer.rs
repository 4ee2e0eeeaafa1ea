//! When a device may be asked next, from start to start. Arithmetic only; the caller brings the clock.

use crate::device::Pace;
use std::time::Duration;
use tokio::time::Instant;

/// A bucket of `burst` requests, refilled by one each `min_interval`, kept as the one time at which it would be full again.
#[derive(Debug)]
pub(super) struct Pacer {
    min_interval: Duration,
    /// How far `full_at` may lie ahead and a request still be allowed.
    slack: Duration,
    full_at: Option<Instant>,
    held_until: Option<Instant>,
}

impl Pacer {
    pub(super) fn new(pace: Pace) -> Self {
        let slack = pace.min_interval.saturating_mul(pace.burst.saturating_sub(1));
        Pacer { min_interval: pace.min_interval, slack, full_at: None, held_until: None }
    }

    /// The first moment, not before `now`, at which a request may start.
    pub(super) fn earliest(&self, now: Instant) -> Instant {
        let by_bucket = self.full_at.and_then(|full_at| full_at.checked_sub(self.slack)).unwrap_or(now);
        by_bucket.max(self.held_until.unwrap_or(now)).max(now)
    }

    /// A request starts now.
    pub(super) fn start(&mut self, now: Instant) {
        self.full_at = Some(self.full_at.unwrap_or(now).max(now) + self.min_interval);
    }

    /// The device asked to be left alone until then.
    pub(super) fn hold(&mut self, until: Instant) {
        self.held_until = Some(until);
    }

    pub(super) fn min_interval(&self) -> Duration {
        self.min_interval
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_burst_of_eight_starts_at_once_and_then_one_each_interval() {
        let start = Instant::now();
        let mut pacer = Pacer::new(Pace { min_interval: 100 * MS, burst: 8 });
        for _ in 0..8 {
            assert_eq!(pacer.earliest(start), start);
            pacer.start(start);
        }
        assert_eq!(pacer.earliest(start), start + 100 * MS);
        pacer.start(start + 100 * MS);
        assert_eq!(pacer.earliest(start + 100 * MS), start + 200 * MS);
        let later = start + 60_000 * MS;
        for _ in 0..8 {
            assert_eq!(pacer.earliest(later), later, "the bucket is full again");
            pacer.start(later);
        }
        assert_eq!(pacer.earliest(later), later + 100 * MS, "and holds no more than the burst");
    }

    #[test]
    fn without_a_burst_starts_are_an_interval_apart_however_long_the_device_took() {
        let start = Instant::now();
        for burst in [0, 1] {
            let mut pacer = Pacer::new(Pace { min_interval: 2000 * MS, burst });
            pacer.start(start);
            assert_eq!(pacer.earliest(start + 500 * MS), start + 2000 * MS);
            assert_eq!(pacer.earliest(start + 2500 * MS), start + 2500 * MS);
        }
    }

    #[test]
    fn a_hold_counts_beside_the_bucket() {
        let start = Instant::now();
        let mut pacer = Pacer::new(Pace::default());
        pacer.hold(start + 700 * MS);
        assert_eq!(pacer.earliest(start), start + 700 * MS);
        assert_eq!(pacer.earliest(start + 800 * MS), start + 800 * MS);
    }
}
