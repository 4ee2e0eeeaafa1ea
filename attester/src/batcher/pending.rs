//! Who waits for the next report, and the limits on that (decisions 16 and 20).
//!
//! A leaf counts against the pending limit until a request takes it, and against its source's cap until its answer is there or nobody
//! waits for it any more. Whoever stops waiting takes only itself out.

use crate::batcher::{AttestError, BatchEvidence, Settings};
use crate::device::DeviceError;
use ratls::binding::{ChannelLeaf, KeyLeaf, LeafHash, MAX_LEAVES};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

/// Key leaves are made once an hour; more at a time are a mistake of ours.
const MAX_PENDING_KEYS: usize = 4;
/// A device that asks for a longer rest than this is reported to those who come, instead of letting them wait.
pub(super) const LONGEST_SILENT_HOLD: Duration = Duration::from_secs(1);
/// A leaf that waits longer than this, because the device says again and again that it is busy, is given up: whoever waits has a
/// deadline of its own, and had better be told when to come back.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

pub(super) type Outcome = Result<(Arc<BatchEvidence>, u32), DeviceError>;

/// Shared by the handles and the loop. The lock is held for a few map operations and never across an await.
pub(super) struct Queue {
    settings: Settings,
    state: Mutex<State>,
    wake: Notify,
}

struct State {
    leaves: BTreeMap<u64, Waiter>,
    keys: VecDeque<WaitingKey>,
    by_source: HashMap<Source, usize>,
    next_id: u64,
    held_until: Option<Instant>,
    /// How long somebody who is turned away should stay away.
    retry_after: Duration,
    closed: bool,
}

pub(super) struct Waiter {
    id: u64,
    hash: LeafHash,
    since: Instant,
    reply: oneshot::Sender<Outcome>,
}

pub(super) struct WaitingKey {
    leaf: KeyLeaf,
    since: Instant,
    reply: oneshot::Sender<Outcome>,
}

/// Whom a cap counts: an IPv4 address, or the /64 of an IPv6 address, because one host has all of that.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Source(IpAddr);

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        Source(match address.to_canonical() {
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
            v4 => v4,
        })
    }
}

/// A place in the queue. Dropping it gives the place back.
pub(super) struct Ticket {
    queue: Arc<Queue>,
    id: u64,
    source: Source,
    pub(super) answer: oneshot::Receiver<Outcome>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.queue.leave(self.id, self.source);
    }
}

/// What one request takes from the queue.
pub(super) enum Work {
    /// All leaves that were pending, oldest first, and who waits for each.
    Batch(Vec<Waiter>),
    Key(WaitingKey),
}

impl Work {
    pub(super) fn leaves(&self) -> Vec<LeafHash> {
        match self {
            Work::Batch(waiters) => waiters.iter().map(|waiter| waiter.hash).collect(),
            Work::Key(key) => vec![key.leaf.hash()],
        }
    }

    /// Tells each leaf's waiter. It fails where nobody waits any more, which is as good.
    pub(super) fn answer(self, outcome: impl Fn(u32) -> Outcome) {
        let replies: Vec<_> = match self {
            Work::Batch(waiters) => waiters.into_iter().map(|waiter| waiter.reply).collect(),
            Work::Key(key) => vec![key.reply],
        };
        for (index, reply) in (0..).zip(replies) {
            let _ = reply.send(outcome(index));
        }
    }
}

impl Queue {
    pub(super) fn new(settings: Settings, retry_after: Duration) -> Self {
        let state = State {
            leaves: BTreeMap::new(),
            keys: VecDeque::new(),
            by_source: HashMap::new(),
            next_id: 0,
            held_until: None,
            retry_after,
            closed: false,
        };
        Queue { settings, state: Mutex::new(state), wake: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the queue")
    }

    pub(super) fn enter(self: &Arc<Self>, leaf: ChannelLeaf, source: IpAddr) -> Result<Ticket, AttestError> {
        let source = Source::from(source);
        let (reply, answer) = oneshot::channel();
        let mut state = self.state();
        state.refuse_if_closed_or_held()?;
        if state.leaves.len() >= self.settings.max_pending {
            return Err(AttestError::QueueFull { retry_after: state.retry_after });
        }
        let of_source = state.by_source.get(&source).copied().unwrap_or(0);
        if of_source >= self.settings.max_per_source {
            return Err(AttestError::SourceOverCap { cap: self.settings.max_per_source });
        }
        state.by_source.insert(source, of_source + 1);
        let id = state.next_id;
        state.next_id += 1;
        state.leaves.insert(id, Waiter { id, hash: leaf.hash(), since: Instant::now(), reply });
        drop(state);
        self.wake.notify_one();
        Ok(Ticket { queue: self.clone(), id, source, answer })
    }

    pub(super) fn enter_key(&self, leaf: KeyLeaf) -> Result<oneshot::Receiver<Outcome>, AttestError> {
        let (reply, answer) = oneshot::channel();
        let mut state = self.state();
        state.refuse_if_closed_or_held()?;
        state.keys.retain(|key| !key.reply.is_closed());
        if state.keys.len() >= MAX_PENDING_KEYS {
            return Err(AttestError::QueueFull { retry_after: state.retry_after });
        }
        state.keys.push_back(WaitingKey { leaf, since: Instant::now(), reply });
        drop(state);
        self.wake.notify_one();
        Ok(answer)
    }

    fn leave(&self, id: u64, source: Source) {
        let mut state = self.state();
        state.leaves.remove(&id);
        if let Some(count) = state.by_source.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                state.by_source.remove(&source);
            }
        }
    }

    /// Returns when there is something to take.
    pub(super) async fn wait_for_work(&self) {
        loop {
            if self.state().has_work() {
                return;
            }
            // A notification between the look and the await is stored, not lost.
            self.wake.notified().await;
        }
    }

    /// Everything that is pending, or one key leaf where one waits: keys are rare, and behind a steady stream of batches they would
    /// never have their turn. `None` where everybody has left in the meantime.
    pub(super) fn take(&self) -> Option<Work> {
        let mut state = self.state();
        while let Some(key) = state.keys.pop_front() {
            if !key.reply.is_closed() {
                return Some(Work::Key(key));
            }
        }
        let most = usize::try_from(MAX_LEAVES).expect("65,536 fits");
        let rest = match state.leaves.keys().nth(most) {
            Some(&first_of_rest) => state.leaves.split_off(&first_of_rest),
            None => BTreeMap::new(),
        };
        let taken = std::mem::replace(&mut state.leaves, rest);
        drop(state);
        let waiters: Vec<_> = taken.into_values().filter(|waiter| !waiter.reply.is_closed()).collect();
        (!waiters.is_empty()).then_some(Work::Batch(waiters))
    }

    /// Leaves that a busy device had no report for wait again, in their old places, so that the next request takes them; `work` is
    /// what is left of them. A long rest, or a wait that was long already, is told to those who wait instead. Their places may have
    /// been taken meanwhile: for this time a request more than the limit may be pending.
    pub(super) fn put_back(&self, work: Work, now: Instant, until: Instant) -> Option<Work> {
        let waits = |since: Instant| {
            until.saturating_duration_since(now) <= LONGEST_SILENT_HOLD
                && until.saturating_duration_since(since) <= LONGEST_WAIT
        };
        let mut state = self.state();
        if state.closed {
            return Some(work);
        }
        match work {
            Work::Batch(waiters) => {
                let (again, over): (Vec<_>, Vec<_>) = waiters.into_iter().partition(|waiter| waits(waiter.since));
                let again = again.into_iter().filter(|waiter| !waiter.reply.is_closed());
                state.leaves.extend(again.map(|waiter| (waiter.id, waiter)));
                (!over.is_empty()).then_some(Work::Batch(over))
            }
            Work::Key(key) if waits(key.since) => {
                state.keys.push_front(key);
                None
            }
            Work::Key(key) => Some(Work::Key(key)),
        }
    }

    /// The device wants rest until `until`. Where that is long, those who wait are told now.
    pub(super) fn hold(&self, now: Instant, until: Instant) {
        let mut state = self.state();
        state.held_until = Some(until);
        let Some(busy) = state.busy(now) else { return };
        let (leaves, keys) = (std::mem::take(&mut state.leaves), std::mem::take(&mut state.keys));
        drop(state);
        let replies = leaves.into_values().map(|waiter| waiter.reply).chain(keys.into_iter().map(|key| key.reply));
        for reply in replies {
            // Fails where nobody waits any more, which is as good.
            let _ = reply.send(Err(busy.clone()));
        }
    }

    pub(super) fn set_retry_after(&self, retry_after: Duration) {
        self.state().retry_after = retry_after;
    }

    /// Nobody will answer any more: those who wait learn it by their dropped senders, those who come by an error.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.leaves.clear();
        state.keys.clear();
    }
}

impl State {
    fn has_work(&self) -> bool {
        !self.leaves.is_empty() || !self.keys.is_empty()
    }

    fn busy(&self, now: Instant) -> Option<DeviceError> {
        let rest = self.held_until?.saturating_duration_since(now);
        (rest > LONGEST_SILENT_HOLD).then_some(DeviceError::Busy { retry_after: rest })
    }

    fn refuse_if_closed_or_held(&self) -> Result<(), AttestError> {
        if self.closed {
            return Err(AttestError::Closed);
        }
        match self.busy(Instant::now()) {
            Some(busy) => Err(AttestError::Device(busy)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_an_ipv4_address_or_an_ipv6_network() {
        let source = |text: &str| Source::from(text.parse::<IpAddr>().unwrap());
        assert!(source("192.0.2.1") == source("::ffff:192.0.2.1"));
        assert!(source("192.0.2.1") != source("192.0.2.2"));
        assert!(source("2001:db8:0:1::1") == source("2001:db8:0:1:ffff::2"));
        assert!(source("2001:db8:0:1::1") != source("2001:db8:0:2::1"));
    }
}
