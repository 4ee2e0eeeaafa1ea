//! What happened with one guest lately: verdicts, refusals, and the tunnels that are open now. For the admin page.
//!
//! Bounded: the same outcome again is counted, not listed, and old entries fall out. Nothing here decides anything.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard};

use proxy_core::tunnel::Traffic;
use ratls::appraise::{AttestationResult, Finding, Severity};
use ratls::time::UnixTime;

use crate::open::OpenError;

/// Outcomes that are kept.
const MAX_EVENTS: usize = 50;
/// Of what a peer may have had a part in writing.
const MAX_REASON: usize = 300;

/// One outcome, or several equal ones in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub first: UnixTime,
    pub last: UnixTime,
    pub times: u64,
    /// `accepted`, or what became of the attempt.
    pub outcome: &'static str,
    /// Finding ids, or the error.
    pub reason: String,
    /// The trust table in words; empty where there was no evidence.
    pub levels: String,
}

/// A tunnel that is open.
#[derive(Clone, Copy, Debug)]
pub struct Live {
    pub since: UnixTime,
    pub sent: u64,
    pub received: u64,
}

#[derive(Default)]
pub struct History {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    events: VecDeque<Event>,
    live: BTreeMap<u64, (UnixTime, Arc<Traffic>)>,
    next: u64,
}

impl History {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn record(&self, outcome: &Result<Arc<AttestationResult>, OpenError>, at: UnixTime) {
        let (outcome, reason, levels) = match outcome {
            Ok(result) => ("accepted", String::new(), result.level_words()),
            Err(OpenError::Refused { result, .. }) => ("refused", ids(result), result.level_words()),
            Err(error @ OpenError::Unreachable { .. }) => ("unreachable", short(error), String::new()),
            Err(error) => ("no tunnel", short(error), String::new()),
        };
        let mut inner = self.lock();
        match inner.events.back_mut() {
            Some(last) if last.outcome == outcome && last.reason == reason && last.levels == levels => {
                last.times += 1;
                last.last = at;
            }
            _ => {
                if inner.events.len() == MAX_EVENTS {
                    inner.events.pop_front();
                }
                inner.events.push_back(Event { first: at, last: at, times: 1, outcome, reason, levels });
            }
        }
    }

    /// The newest first.
    pub fn events(&self) -> Vec<Event> {
        self.lock().events.iter().rev().cloned().collect()
    }

    /// Lists a tunnel for as long as the value lives.
    pub fn open(self: &Arc<Self>, since: UnixTime, traffic: Arc<Traffic>) -> Listed {
        let mut inner = self.lock();
        let number = inner.next;
        inner.next += 1;
        inner.live.insert(number, (since, traffic));
        Listed { history: self.clone(), number }
    }

    /// How many tunnels are open, and the newest `at_most` of them.
    pub fn live(&self, at_most: usize) -> (usize, Vec<Live>) {
        let inner = self.lock();
        let newest = inner.live.values().rev().take(at_most);
        let live = newest.map(|(since, traffic)| Live {
            since: *since,
            sent: traffic.sent.load(Relaxed),
            received: traffic.received.load(Relaxed),
        });
        (inner.live.len(), live.collect())
    }
}

/// An open tunnel in the list.
#[must_use = "it is listed only as long as it lives"]
pub struct Listed {
    history: Arc<History>,
    number: u64,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.history.lock().live.remove(&self.number);
    }
}

fn ids(result: &AttestationResult) -> String {
    let fatal = result.findings().iter().filter(|finding| finding.severity() == Severity::Fatal);
    fatal.map(Finding::id).collect::<Vec<_>>().join(" ")
}

fn short(error: &OpenError) -> String {
    let text = error.to_string();
    match text.char_indices().nth(MAX_REASON) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unreachable(reason: &str) -> Result<Arc<AttestationResult>, OpenError> {
        Err(OpenError::Unreachable { address: "192.0.2.1:1".to_owned(), reason: reason.to_owned() })
    }

    fn at(secs: i64) -> UnixTime {
        UnixTime::from_secs(secs)
    }

    #[test]
    fn the_same_again_is_counted_and_the_list_is_bounded() {
        let history = History::default();
        for second in 0..10 {
            history.record(&unreachable("refused"), at(second));
        }
        let events = history.events();
        assert_eq!(events.len(), 1);
        assert_eq!((events[0].times, events[0].first, events[0].last), (10, at(0), at(9)));
        for i in 0..2 * MAX_EVENTS {
            history.record(&unreachable(&format!("reason {i}")), at(100));
        }
        let events = history.events();
        assert_eq!(events.len(), MAX_EVENTS);
        assert!(events[0].reason.ends_with(&format!("reason {}", 2 * MAX_EVENTS - 1)), "the newest first");
    }

    #[test]
    fn what_a_peer_wrote_is_cut() {
        let history = History::default();
        history.record(&unreachable(&"é".repeat(10_000)), at(0));
        assert!(history.events()[0].reason.chars().count() <= MAX_REASON + 1);
    }

    #[test]
    fn a_tunnel_is_listed_while_it_lives() {
        let history = Arc::new(History::default());
        let first = history.open(at(1), Arc::default());
        let second = history.open(at(2), Arc::default());
        assert_eq!(history.live(1).0, 2);
        assert_eq!(history.live(1).1[0].since, at(2));
        drop(second);
        assert_eq!(history.live(9).1.len(), 1);
        drop(first);
        assert_eq!(history.live(9).0, 0);
    }
}
