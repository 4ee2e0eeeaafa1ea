//! When a guest that is not attested yet is tried again, and what the log says of it.
//!
//! Each attempt on a guest that answers costs it a report and, with an audit log, a line here. A refusal lasts until somebody
//! changes the guest or the policy, so the pauses grow fast; a guest that is only unreachable may come up at any moment, so
//! there they grow slowly. What is the same as before is counted and logged again only when the count doubles.

use std::time::Duration;

use crate::open::OpenError;

const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// For a guest that answers, and whose answer is no.
const MAX_PAUSE_REFUSED: Duration = Duration::from_secs(600);
/// For a guest that does not answer.
const MAX_PAUSE_UNREACHABLE: Duration = Duration::from_secs(30);

/// The attempts on one guest so far.
pub(crate) struct Retry {
    guest: String,
    pause: Duration,
    last: Option<String>,
    times: u64,
}

/// What to log of an attempt.
#[derive(Debug, PartialEq, Eq)]
enum Report {
    /// Another reason than before; how often the one before occurred.
    New {
        before: u64,
    },
    Repeated {
        times: u64,
    },
    Nothing,
}

impl Retry {
    pub(crate) fn new(guest: String) -> Retry {
        Retry { guest, pause: FIRST_PAUSE, last: None, times: 0 }
    }

    /// Logs a failed attempt if it is news; how long to wait before the next.
    pub(crate) fn after(&mut self, error: &OpenError) -> Duration {
        let report = self.count(error.to_string());
        let pause = self.next_pause(error);
        let next_attempt_s = pause.as_secs();
        match report {
            Report::New { before } => {
                if before > 1 {
                    tracing::warn!(guest = %self.guest, times = before, "the reason before");
                }
                tracing::warn!(guest = %self.guest, %error, next_attempt_s, "not attested");
            }
            Report::Repeated { times } => {
                tracing::warn!(guest = %self.guest, times, next_attempt_s, "not attested: the same as before");
            }
            Report::Nothing => {}
        }
        pause
    }

    /// Logs that the attempts are over.
    pub(crate) fn attested(&self) {
        if self.times > 0 {
            tracing::info!(guest = %self.guest, failed_before = self.times, "attested");
        }
    }

    fn count(&mut self, reason: String) -> Report {
        if self.last.as_ref() != Some(&reason) {
            self.last = Some(reason);
            let before = std::mem::replace(&mut self.times, 1);
            return Report::New { before };
        }
        self.times = self.times.saturating_add(1);
        match self.times.is_power_of_two() {
            true => Report::Repeated { times: self.times },
            false => Report::Nothing,
        }
    }

    fn next_pause(&mut self, error: &OpenError) -> Duration {
        let most = match error {
            OpenError::Refused { .. } | OpenError::AccessDenied { .. } => MAX_PAUSE_REFUSED,
            _ => MAX_PAUSE_UNREACHABLE,
        };
        let pause = self.pause.min(most);
        self.pause = (pause * 2).min(most);
        match error {
            OpenError::Busy { retry_after, .. } => pause.max(*retry_after),
            _ => pause,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unreachable(reason: &str) -> OpenError {
        OpenError::Unreachable { address: "192.0.2.1:1".to_owned(), reason: reason.to_owned() }
    }

    #[test]
    fn the_same_reason_is_logged_each_time_that_its_count_doubles() {
        let mut retry = Retry::new("g".to_owned());
        let reports: Vec<Report> = (0..1000).map(|_| retry.count("no".to_owned())).collect();
        assert_eq!(reports.iter().filter(|report| **report != Report::Nothing).count(), 10);
        assert_eq!(reports[0], Report::New { before: 0 });
        assert_eq!(reports[511], Report::Repeated { times: 512 });
        assert_eq!(retry.count("other".to_owned()), Report::New { before: 1000 });
    }

    #[test]
    fn a_guest_that_says_no_is_asked_ever_less_often() {
        let denied = OpenError::AccessDenied { address: "192.0.2.1:1".to_owned(), reason: "no".to_owned() };
        let mut retry = Retry::new("g".to_owned());
        let pauses: Vec<u64> = (0..10).map(|_| retry.after(&denied).as_secs()).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 600, 600, 600]);
    }

    #[test]
    fn a_guest_that_does_not_answer_is_found_soon_after_it_comes_up() {
        let mut retry = Retry::new("g".to_owned());
        let pauses: Vec<u64> = (0..6).map(|_| retry.after(&unreachable("refused")).as_secs()).collect();
        assert_eq!(pauses, [5, 10, 20, 30, 30, 30]);
    }

    #[test]
    fn a_guest_that_names_a_longer_pause_gets_it() {
        let busy = OpenError::Busy {
            address: "192.0.2.1:1".to_owned(),
            reason: "full".to_owned(),
            retry_after: Duration::from_secs(45),
        };
        assert_eq!(Retry::new("g".to_owned()).after(&busy), Duration::from_secs(45));
    }
}
