//! Hands on the device while somebody else owns it: latency, throttle, gate, failures, counters.
//!
//! A device is moved into the batcher; a test keeps a clone of its [`Controls`]. All of it acts on the next request that begins.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Why the device gave no report.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// Asked sooner than the throttle allows, or told to say so.
    #[error("simulated AMD-SP: busy, ask again in {} ms", retry_after.as_millis())]
    Busy { retry_after: Duration },
    /// The firmware answered the request with an error status.
    #[error("simulated AMD-SP: the firmware refused the request, status {status:#x}")]
    Refused { status: u32 },
    /// The message key between guest and firmware is gone; it returns only with a new launch.
    #[error("simulated AMD-SP: the VMPCK is gone, this guest can ask for no more reports")]
    VmpckGone,
    /// A guest may ask for its own VMPL or a less privileged one.
    #[error("simulated AMD-SP: VMPL {asked} asked by a guest at VMPL {own}")]
    Vmpl { asked: u32, own: u32 },
}

/// A failure to inject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    Busy,
    Refused,
    /// Stays: each later request fails as well.
    VmpckGone,
}

/// Status INVALID_PARAM of the SNP ABI, as firmware answers a request that it does not like.
const STATUS_INVALID_PARAM: u32 = 0x16;
/// What a busy device without a throttle asks for.
const BUSY_RETRY: Duration = Duration::from_millis(100);

/// A handle on one device's behaviour; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Controls {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    latency: Duration,
    min_interval: Option<Duration>,
    last_start: Option<Instant>,
    failures: VecDeque<Failure>,
    vmpck_gone: bool,
    holders: u32,
    waiting: u32,
    asked: u64,
    made: u64,
}

/// Holds the device: requests wait until this is dropped.
#[must_use = "the device is released as soon as this is dropped"]
#[derive(Debug)]
pub struct Held {
    shared: Arc<Shared>,
}

impl Controls {
    /// How long the device works on each report from now on.
    pub fn set_latency(&self, latency: Duration) {
        self.lock().latency = latency;
    }

    /// Requests that start sooner after the last one's start are answered [`DeviceError::Busy`]. `None`: no throttle.
    pub fn set_min_interval(&self, min_interval: Option<Duration>) {
        self.lock().min_interval = min_interval;
    }

    pub fn min_interval(&self) -> Option<Duration> {
        self.lock().min_interval
    }

    /// The next request fails so; several calls queue up.
    pub fn fail_next(&self, failure: Failure) {
        self.lock().failures.push_back(failure);
    }

    /// Holds the device until the returned value is dropped, also by a panic of the test.
    pub fn hold(&self) -> Held {
        self.lock().holders += 1;
        Held { shared: Arc::clone(&self.shared) }
    }

    /// Waits until `count` requests wait at the gate; `false` if that takes longer than `limit`.
    pub fn wait_for_waiting(&self, count: u32, limit: Duration) -> bool {
        let state = self.lock();
        let (_state, timeout) = self
            .shared
            .changed
            .wait_timeout_while(state, limit, |state| state.waiting < count)
            .unwrap_or_else(PoisonError::into_inner);
        !timeout.timed_out()
    }

    /// Requests begun, with those that failed.
    pub fn reports_asked(&self) -> u64 {
        self.lock().asked
    }

    /// Reports handed out.
    pub fn reports_made(&self) -> u64 {
        self.lock().made
    }

    /// One request: fails, waits at the gate and works as configured, then lets `sign` make the report.
    pub(crate) fn serve<T>(&self, sign: impl FnOnce() -> T) -> Result<T, DeviceError> {
        let latency = self.begin(Instant::now())?;
        std::thread::sleep(latency);
        let answer = sign();
        self.lock().made += 1;
        Ok(answer)
    }

    fn begin(&self, now: Instant) -> Result<Duration, DeviceError> {
        let mut state = self.lock();
        state.asked += 1;
        if state.vmpck_gone {
            return Err(DeviceError::VmpckGone);
        }
        match state.failures.pop_front() {
            Some(Failure::Busy) => {
                return Err(DeviceError::Busy { retry_after: state.min_interval.unwrap_or(BUSY_RETRY) });
            }
            Some(Failure::Refused) => return Err(DeviceError::Refused { status: STATUS_INVALID_PARAM }),
            Some(Failure::VmpckGone) => {
                state.vmpck_gone = true;
                return Err(DeviceError::VmpckGone);
            }
            None => {}
        }
        if let (Some(interval), Some(last)) = (state.min_interval, state.last_start) {
            let passed = now.saturating_duration_since(last);
            if passed < interval {
                return Err(DeviceError::Busy { retry_after: interval - passed });
            }
        }
        state.last_start = Some(now);
        state.waiting += 1;
        self.shared.changed.notify_all();
        let mut state =
            self.shared.changed.wait_while(state, |state| state.holders > 0).unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
        Ok(state.latency)
    }

    /// A panic elsewhere leaves the state whole, since no update is left half done under the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).holders -= 1;
        self.shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn a_held_device_answers_when_it_is_released() {
        let controls = Controls::default();
        let held = controls.hold();
        let device = controls.clone();
        let thread = std::thread::spawn(move || device.serve(|| 7));
        assert!(controls.wait_for_waiting(1, LONG));
        assert_eq!((controls.reports_asked(), controls.reports_made()), (1, 0));
        drop(held);
        assert_eq!(thread.join().unwrap(), Ok(7));
        assert_eq!(controls.reports_made(), 1);
    }

    #[test]
    fn a_request_that_comes_too_soon_is_told_how_long_to_wait() {
        let controls = Controls::default();
        controls.set_min_interval(Some(LONG));
        assert_eq!(controls.serve(|| ()), Ok(()));
        let Err(DeviceError::Busy { retry_after }) = controls.serve(|| ()) else { panic!("asked too soon") };
        assert!(retry_after <= LONG && retry_after > LONG / 2);
        controls.set_min_interval(None);
        assert_eq!(controls.serve(|| ()), Ok(()));
        assert_eq!((controls.reports_asked(), controls.reports_made()), (3, 2));
    }

    #[test]
    fn injected_failures_come_in_order_and_a_lost_vmpck_stays_lost() {
        let controls = Controls::default();
        for failure in [Failure::Busy, Failure::Refused, Failure::VmpckGone] {
            controls.fail_next(failure);
        }
        assert_eq!(controls.serve(|| ()), Err(DeviceError::Busy { retry_after: BUSY_RETRY }));
        assert_eq!(controls.serve(|| ()), Err(DeviceError::Refused { status: STATUS_INVALID_PARAM }));
        assert_eq!(controls.serve(|| ()), Err(DeviceError::VmpckGone));
        assert_eq!(controls.serve(|| ()), Err(DeviceError::VmpckGone));
        assert_eq!((controls.reports_asked(), controls.reports_made()), (4, 0));
    }
}
