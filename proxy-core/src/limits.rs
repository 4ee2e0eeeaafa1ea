//! Permits for connections, in total and per source, and a counter per source for anything else that a stranger can pile up.
//!
//! A permit is a value: what it counts is counted back when it is dropped, whatever way the connection ended. Nothing is
//! kept for a source that holds no permit, so the memory is bounded by the permits.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::net::Peer;

/// Why a connection is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    #[error("{max} connections are open, which is the limit")]
    Total { max: usize },
    #[error("{source} has {max} connections open, which is the limit per source", source = .source_ip)]
    Source { source_ip: IpAddr, max: usize },
}

impl Refusal {
    /// The label under which metrics count it.
    pub fn reason(&self) -> &'static str {
        match self {
            Refusal::Total { .. } => "total",
            Refusal::Source { .. } => "source",
        }
    }
}

/// The limit of connections of one listener, or of several that share it. Cheap to clone.
#[derive(Clone)]
pub struct Connections {
    total: Arc<Semaphore>,
    max_total: usize,
    sources: PerSource,
}

/// One connection's place. Dropping it gives the place back.
#[must_use = "the connection counts only as long as its permit lives"]
pub struct Permit {
    _total: OwnedSemaphorePermit,
    _source: SourcePermit,
}

impl Connections {
    /// More than [`Semaphore::MAX_PERMITS`] is taken as that many; the descriptors end long before.
    pub fn new(max_total: usize, max_per_source: usize) -> Self {
        let max_total = max_total.min(Semaphore::MAX_PERMITS);
        Connections { total: Arc::new(Semaphore::new(max_total)), max_total, sources: PerSource::new(max_per_source) }
    }

    /// A place now, or the reason why there is none.
    pub fn try_admit(&self, peer: Peer) -> Result<Permit, Refusal> {
        let source = self.source(peer)?;
        let total = Arc::clone(&self.total).try_acquire_owned().map_err(|_| self.full())?;
        Ok(Permit { _total: total, _source: source })
    }

    /// A place, waiting for one until `deadline` where the total is reached. A source at its own limit is refused at
    /// once: waiting would let it hold the queue against the others.
    pub async fn admit(&self, peer: Peer, deadline: Instant) -> Result<Permit, Refusal> {
        let source = self.source(peer)?;
        let waiting = tokio::time::timeout_at(deadline, Arc::clone(&self.total).acquire_owned());
        match waiting.await {
            Ok(Ok(total)) => Ok(Permit { _total: total, _source: source }),
            // The semaphore is never closed; both mean that no place became free.
            Ok(Err(_)) | Err(_) => Err(self.full()),
        }
    }

    pub fn open(&self) -> usize {
        self.max_total - self.total.available_permits()
    }

    fn source(&self, peer: Peer) -> Result<SourcePermit, Refusal> {
        let source_ip = peer.source();
        self.sources.try_take(source_ip).ok_or(Refusal::Source { source_ip, max: self.sources.max() })
    }

    fn full(&self) -> Refusal {
        Refusal::Total { max: self.max_total }
    }
}

/// At most `max` of something for each source. Cheap to clone.
#[derive(Clone)]
pub struct PerSource {
    held: Arc<Mutex<HashMap<IpAddr, usize>>>,
    max: usize,
}

#[must_use = "it counts only as long as it lives"]
pub struct SourcePermit {
    held: Arc<Mutex<HashMap<IpAddr, usize>>>,
    source: IpAddr,
}

impl PerSource {
    pub fn new(max: usize) -> Self {
        PerSource { held: Arc::default(), max }
    }

    pub fn max(&self) -> usize {
        self.max
    }

    pub fn try_take(&self, source: IpAddr) -> Option<SourcePermit> {
        if self.max == 0 {
            return None;
        }
        let mut held = lock(&self.held);
        let count = held.entry(source).or_insert(0);
        if *count >= self.max {
            return None;
        }
        *count += 1;
        Some(SourcePermit { held: Arc::clone(&self.held), source })
    }
}

impl Drop for SourcePermit {
    fn drop(&mut self) {
        if let Entry::Occupied(mut entry) = lock(&self.held).entry(self.source) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

/// The counts are whole after every statement, so a panic elsewhere under the lock cannot have broken them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn peer(text: &str) -> Peer {
        Peer::Tcp(text.parse().unwrap())
    }

    #[test]
    fn refuses_above_the_total_and_says_so() {
        let limits = Connections::new(2, 2);
        let first = limits.try_admit(peer("10.0.0.1:1")).unwrap();
        let _second = limits.try_admit(peer("10.0.0.2:1")).unwrap();
        assert_eq!(limits.try_admit(peer("10.0.0.3:1")).err(), Some(Refusal::Total { max: 2 }));
        assert_eq!(limits.open(), 2);
        drop(first);
        assert!(limits.try_admit(peer("10.0.0.3:1")).is_ok());
    }

    #[test]
    fn one_source_cannot_take_the_places_of_others() {
        let limits = Connections::new(10, 2);
        let held: Vec<_> = (1..=2).map(|p| limits.try_admit(peer(&format!("[2001:db8::{p}]:1"))).unwrap()).collect();
        let refused = limits.try_admit(peer("[2001:db8::ffff]:1")).err().unwrap();
        assert_eq!(refused.reason(), "source");
        assert_eq!(refused.to_string(), "2001:db8:: has 2 connections open, which is the limit per source");
        assert!(limits.try_admit(peer("[2001:db8:0:1::1]:1")).is_ok());
        drop(held);
        assert!(limits.try_admit(peer("[2001:db8::ffff]:1")).is_ok());
    }

    #[test]
    fn a_refused_connection_leaves_nothing_behind() {
        let limits = Connections::new(1, 1);
        let permit = limits.try_admit(peer("10.0.0.1:1")).unwrap();
        for n in 2..200 {
            assert!(limits.try_admit(peer(&format!("10.0.0.{n}:1"))).is_err());
        }
        assert_eq!(limits.sources.held.lock().unwrap().len(), 1);
        drop(permit);
        assert_eq!(limits.sources.held.lock().unwrap().len(), 0);
        assert_eq!(limits.open(), 0);
    }

    #[test]
    fn a_limit_of_zero_admits_nobody() {
        assert!(PerSource::new(0).try_take(IpAddr::from([10, 0, 0, 1])).is_none());
        assert!(Connections::new(0, 1).try_admit(Peer::Unix).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn waits_for_a_place_until_its_deadline() {
        let limits = Connections::new(1, 5);
        let permit = limits.try_admit(Peer::Unix).unwrap();
        let deadline = Instant::now() + Duration::from_secs(1);
        assert_eq!(limits.admit(Peer::Unix, deadline).await.err(), Some(Refusal::Total { max: 1 }));
        let waiting = limits.admit(Peer::Unix, Instant::now() + Duration::from_secs(1));
        let freeing = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            drop(permit);
        };
        let (admitted, ()) = tokio::join!(waiting, freeing);
        assert!(admitted.is_ok());
    }
}
