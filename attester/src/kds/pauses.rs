//! Failures at the key service that are not repeated for a while: each resource has its own pause, which doubles from failure to
//! failure; where the service throttles, everything pauses as long as it said.

use crate::kds::{KdsError, Resource};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use tokio::time::Instant;

/// Remembered failures; one guest makes a handful.
const MAX_FAILURES: usize = 64;

pub(super) struct Pauses {
    pub(super) first: Duration,
    longest: Duration,
    state: Mutex<PauseState>,
}

#[derive(Default)]
struct PauseState {
    failures: HashMap<Resource, Failure>,
    /// AMD throttles the client, not the resource.
    throttled_until: Option<(Instant, KdsError)>,
}

struct Failure {
    until: Instant,
    streak: u32,
    error: KdsError,
}

impl Pauses {
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        Pauses { first, longest, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, PauseState> {
        self.state.lock().expect("nothing panics while it holds the map")
    }

    /// How long still, and what failed.
    pub(super) fn pause(&self, resource: &Resource) -> Option<(Duration, KdsError)> {
        let now = Instant::now();
        let state = self.state();
        let own = state.failures.get(resource).map(|failure| (failure.until, &failure.error));
        let all = state.throttled_until.as_ref().map(|(until, error)| (*until, error));
        let (until, error) = own.into_iter().chain(all).max_by_key(|(until, _)| *until)?;
        let left = until.checked_duration_since(now).filter(|left| !left.is_zero())?;
        let error = match error {
            KdsError::Throttled { .. } => KdsError::Throttled { retry_after: left },
            other => other.clone(),
        };
        Some((left, error))
    }

    pub(super) fn failed(&self, resource: &Resource, error: &KdsError) {
        let now = Instant::now();
        let mut state = self.state();
        if let KdsError::Throttled { retry_after } = error {
            state.throttled_until = Some((now + *retry_after, error.clone()));
            return;
        }
        if state.failures.len() >= MAX_FAILURES {
            state.failures.retain(|_, failure| failure.until > now);
        }
        let streak = state.failures.get(resource).map_or(0, |failure| failure.streak + 1);
        let pause = self.first.saturating_mul(1_u32.checked_shl(streak).unwrap_or(u32::MAX)).min(self.longest);
        let failure = Failure { until: now + pause, streak, error: error.clone() };
        state.failures.insert(resource.clone(), failure);
    }

    pub(super) fn succeeded(&self, resource: &Resource) {
        self.state().failures.remove(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratls::endorsement::VekKind;
    use ratls::tcb::Product;

    #[tokio::test(start_paused = true)]
    async fn pauses_double_and_end_with_a_success() {
        let pauses = Pauses::new(Duration::from_secs(5), Duration::from_secs(30));
        let resource = Resource::Crl { kind: VekKind::Vcek, product: Product::Milan };
        let error = KdsError::Form { path: "x".into() };
        for wanted in [5, 10, 20, 30, 30] {
            assert!(pauses.pause(&resource).is_none());
            pauses.failed(&resource, &error);
            assert_eq!(pauses.pause(&resource), Some((Duration::from_secs(wanted), error.clone())));
            tokio::time::advance(Duration::from_secs(wanted)).await;
        }
        pauses.succeeded(&resource);
        pauses.failed(&resource, &error);
        assert_eq!(pauses.pause(&resource).unwrap().0, Duration::from_secs(5));
    }
}
