//! What one ordinary client may hold beyond its connection, and all of them together.
//!
//! The admission of a connection pays for one socket to the upstream and for one request. HTTP/2 asks for more at once:
//! each further request and each further socket takes one of the places here. A source has its share of them, so no
//! source takes those of others, and their number comes out of the same descriptors as the connections.

use std::net::IpAddr;
use std::sync::Arc;

use proxy_core::limits::{PerSource, SourcePermit};
use proxy_core::nofile::Descriptors;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::{Config, PlainClients, UpstreamMode};

/// Most of them for one source, however many there are.
const MAX_SHARE: usize = 256;
/// One source gets no more than this part of them.
const PART: usize = 4;

/// How many sockets to the upstream may be open beside the one that comes with each connection.
pub fn further_upstreams(config: &Config) -> usize {
    match (config.plain_clients, config.upstream.mode) {
        (PlainClients::Allow, UpstreamMode::Http) => {
            Descriptors::raised().pooled(config.limits.max_connections.get(), 1)
        }
        (PlainClients::Refuse, _) | (_, UpstreamMode::Tcp) => 0,
    }
}

/// Places of one kind, of all clients.
#[derive(Clone)]
pub(super) struct Places {
    all: Arc<Semaphore>,
    sources: PerSource,
}

/// The places of one kind that one connection may take: its own first, then those of all.
pub(super) struct Allowance {
    own: Arc<Semaphore>,
    further: Places,
    source: IpAddr,
}

/// Held as long as what it was taken for.
#[must_use = "it counts only as long as it lives"]
pub(super) struct Place {
    _one: OwnedSemaphorePermit,
    _source: Option<SourcePermit>,
}

impl Places {
    pub(super) fn new(number: usize) -> Self {
        let number = number.min(Semaphore::MAX_PERMITS);
        let share = MAX_SHARE.min(number.div_ceil(PART));
        Places { all: Arc::new(Semaphore::new(number)), sources: PerSource::new(share) }
    }

    pub(super) fn of_connection(&self, source: IpAddr) -> Allowance {
        Allowance { own: Arc::new(Semaphore::new(1)), further: self.clone(), source }
    }
}

impl Allowance {
    /// `None` where this source has its share, or all are taken.
    pub(super) fn take(&self) -> Option<Place> {
        if let Ok(own) = Arc::clone(&self.own).try_acquire_owned() {
            return Some(Place { _one: own, _source: None });
        }
        let source = self.further.sources.try_take(self.source)?;
        let one = Arc::clone(&self.further.all).try_acquire_owned().ok()?;
        Some(Place { _one: one, _source: Some(source) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_has_a_quarter_and_each_connection_its_own() {
        let places = Places::new(8);
        let here = places.of_connection("192.0.2.1".parse().unwrap());
        let mut held: Vec<Place> = std::iter::from_fn(|| here.take()).collect();
        assert_eq!(held.len(), 1 + 2);
        let again = places.of_connection("192.0.2.1".parse().unwrap());
        let own = again.take();
        assert!(own.is_some() && again.take().is_none(), "a further connection pays for one place only");
        let elsewhere = places.of_connection("192.0.2.2".parse().unwrap());
        assert_eq!(std::iter::from_fn(|| elsewhere.take()).map(std::mem::forget).count(), 1 + 2);
        held.pop();
        assert!(here.take().is_some(), "a place that was given back is there again");
    }

    #[test]
    fn no_source_has_more_than_a_fixed_number_however_many_there_are() {
        let here = Places::new(1_000_000).of_connection("192.0.2.1".parse().unwrap());
        assert_eq!(std::iter::from_fn(|| here.take()).map(std::mem::forget).count(), 1 + MAX_SHARE);
    }

    #[test]
    fn without_further_places_a_connection_has_its_own() {
        let here = Places::new(0).of_connection("192.0.2.1".parse().unwrap());
        let own = here.take();
        assert!(own.is_some() && here.take().is_none());
    }
}
