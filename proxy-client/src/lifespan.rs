//! How long an accepted connection may carry another tunnel.
//!
//! The monotonic clock of the runtime stands still while a machine sleeps, but evidence goes on aging: a laptop that wakes
//! after a night must not take up yesterday's connection. So each question is asked with the time that the machine slept
//! added, which CLOCK_BOOTTIME counts and the runtime's clock does not.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

/// The path of a connection that rested for longer may be gone without a word: a NAT forgot it, or a machine slept. A shorter
/// time costs sporadic requests a round trip, a longer one leaves more of them waiting on a dead path.
const RESTED: Duration = Duration::from_secs(1);

/// The times of one accepted connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifespan {
    /// The ClientHello.
    started: Instant,
    /// The ClientHello, on the clock that counts suspend.
    started_since_boot: Duration,
    /// When the policy's max_age, the certificates or the revocation list end.
    expires: Instant,
    /// When the guest ends the connection, as far as it said.
    guest_ends: Option<Instant>,
    /// Since when the connection carries nothing.
    idle_since: Instant,
    /// How long the guest waits for OPEN.
    pool_idle: Duration,
}

/// Time since boot, with suspend. No clock that can be set is asked.
fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// A guest closes what was idle for too long; an OPEN must not cross that CLOSE on its way.
fn idle_margin(pool_idle: Duration) -> Duration {
    (pool_idle / 8).clamp(Duration::from_millis(100), Duration::from_secs(5))
}

impl Lifespan {
    /// Of a connection whose ClientHello went out at `started` and whose evidence counts for `good_for` from then on.
    pub(crate) fn new(started: Instant, good_for: Duration, pool_idle: Duration) -> Lifespan {
        let now = Instant::now();
        Lifespan {
            started,
            started_since_boot: since_boot().saturating_sub(now.saturating_duration_since(started)),
            expires: started + good_for,
            guest_ends: None,
            idle_since: now,
            pool_idle,
        }
    }

    /// From `now` on the connection carries nothing.
    pub(crate) fn rest(&mut self, now: Instant) {
        self.idle_since = now;
    }

    /// The guest lets the connection live for `lifetime` from now on.
    pub(crate) fn guest_ends_after(&mut self, lifetime: Duration) {
        self.guest_ends = Instant::now().checked_add(lifetime);
    }

    /// How long the machine slept since the ClientHello.
    fn slept(&self, now: Instant, since_boot: Duration) -> Duration {
        let awake = now.saturating_duration_since(self.started);
        since_boot.saturating_sub(self.started_since_boot).saturating_sub(awake)
    }

    /// Whether another OPEN may go out now. What it would carry has a life of its own: a connection takes no tunnel in the
    /// second half of its time, so that none ends much sooner than on a fresh one.
    pub(crate) fn may_carry_another(&self, now: Instant, reuse_for: Duration) -> bool {
        self.may_carry_at(now, reuse_for, since_boot())
    }

    fn may_carry_at(&self, now: Instant, reuse_for: Duration, since_boot: Duration) -> bool {
        // Sleep before the last use counts as idle time too: that errs on the side of a fresh connection.
        let now = now + self.slept(now, since_boot);
        let ends = self.guest_ends.map_or(self.expires, |ends| ends.min(self.expires));
        let half = ends.saturating_duration_since(self.started) / 2;
        let idle_ends = self.idle_since + self.pool_idle.saturating_sub(idle_margin(self.pool_idle));
        now < self.started + reuse_for.min(half) && now < idle_ends
    }

    /// When a tunnel that opens now ends at the latest, on the runtime's clock; `None` where that time is over.
    pub(crate) fn ends(&self, lifetime: Duration) -> Option<Instant> {
        self.ends_at(Instant::now(), lifetime, since_boot())
    }

    fn ends_at(&self, now: Instant, lifetime: Duration, since_boot: Duration) -> Option<Instant> {
        let left = self.expires.min(self.started + lifetime).saturating_duration_since(now);
        let left = left.saturating_sub(self.slept(now, since_boot));
        (!left.is_zero()).then(|| now + left)
    }

    /// Whether it rested for so long that nobody knows whether its path still exists.
    pub(crate) fn needs_probe(&self, now: Instant) -> bool {
        self.has_rested_at(now, since_boot())
    }

    fn has_rested_at(&self, now: Instant, since_boot: Duration) -> bool {
        now.saturating_duration_since(self.idle_since) + self.slept(now, since_boot) > RESTED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const SECOND: Duration = Duration::from_secs(1);

    fn span() -> (Lifespan, Instant, Duration) {
        let now = Instant::now();
        let span = Lifespan::new(now, HOUR, HOUR);
        (span, now, span.started_since_boot)
    }

    #[test]
    fn a_connection_is_not_used_again_after_a_sleep_longer_than_its_reuse_time() {
        let (span, now, boot) = span();
        let reuse_for = 600 * SECOND;
        assert!(span.may_carry_at(now + SECOND, reuse_for, boot + SECOND), "awake for a second");
        assert!(span.may_carry_at(now + SECOND, reuse_for, boot + 500 * SECOND), "slept for less");
        assert!(!span.may_carry_at(now + SECOND, reuse_for, boot + 601 * SECOND), "slept for longer");
    }

    #[test]
    fn evidence_expires_while_the_machine_sleeps() {
        let (span, now, boot) = span();
        assert_eq!(span.ends_at(now, 2 * HOUR, boot), Some(now + HOUR));
        let left = span.ends_at(now + SECOND, 2 * HOUR, boot + HOUR / 2).unwrap();
        assert_eq!(left, now + SECOND + HOUR / 2);
        assert_eq!(span.ends_at(now + SECOND, 2 * HOUR, boot + HOUR), None);
        assert_eq!(span.ends_at(now + SECOND, HOUR / 4, boot + HOUR / 4), None, "the setting ends as well");
    }

    #[test]
    fn a_connection_that_rested_awake_or_asleep_is_probed() {
        let (span, now, boot) = span();
        assert!(!span.has_rested_at(now + SECOND / 2, boot + SECOND / 2));
        assert!(span.has_rested_at(now + 11 * SECOND, boot + 11 * SECOND));
        assert!(span.has_rested_at(now + SECOND, boot + 12 * SECOND));
    }

    #[test]
    fn a_clock_that_runs_behind_never_makes_a_connection_younger() {
        let (span, now, boot) = span();
        assert!(!span.may_carry_at(now + 700 * SECOND, 600 * SECOND, boot));
    }
}
