//! Attested connections that wait for their next tunnel, for one guest entry.
//!
//! An application's connection takes one that is here and costs no handshake and no report; after FIN in both directions it
//! comes back. What may be taken is decided anew each time: the key (address, SNI, policy digest, client identity;
//! docs/protocol.md, "The client's side") must be the one of now, the connection must be younger than `reuse_for` and than half of its life,
//! must have been idle for less than the guest announced, less a margin, and nothing may have come on it meanwhile.
//!
//! `keep` makes connections ahead of demand: as many as were lately in use at once, and a quarter more, minus those in use.
//! Demand is forgotten by an eighth a second, so a pool that nobody uses shrinks to one connection, and after five minutes to
//! none: a client that sits idle asks no hardware for reports.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use proxy_core::framing::FramingError;
use proxy_core::tasks::Tasks;
use ratls::wire::control::CloseCode;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use crate::attested::AttestedStream;
use crate::open::OpenError;

/// Between two looks at demand and at what waits.
const LOOK: Duration = Duration::from_secs(1);
/// How often more is tried again, after a guest said that it had too many.
const CAP_RISES: Duration = Duration::from_secs(60);
/// Without a tunnel for so long, nothing is kept warm.
const WARM_FOR: Duration = Duration::from_secs(300);
/// A connection that could not wait for so long is not made ahead.
const WORTH: Duration = Duration::from_secs(10);
/// Connections made ahead at the same time.
const AHEAD: usize = 4;
/// How many are looked at for one on the thread that asks.
const NEAR: usize = 16;
/// After a connection could not be made ahead; doubled each time, up to a minute.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// What a pool may hold and for how long.
#[derive(Clone, Copy, Debug)]
pub struct PoolLimits {
    /// Idle connections; with 0 every tunnel has a handshake and a report of its own.
    pub connections: usize,
    /// From its ClientHello until a connection carries no further tunnel.
    pub reuse_for: Duration,
}

/// The idle connections of one guest entry.
pub struct Pool {
    limits: PoolLimits,
    idle: Mutex<VecDeque<AttestedStream>>,
    /// At most so many idle: less than `limits` after the guest said that it has too many.
    cap: AtomicUsize,
    in_use: AtomicUsize,
    /// Most in use at once since the last look.
    peak: AtomicUsize,
    last_use: Mutex<Instant>,
    /// A fresh connection to this guest waits long enough to be worth making ahead.
    keeps: AtomicBool,
    wanted: Notify,
}

/// A tunnel that counts as demand until it is dropped.
pub struct Lease(Arc<Pool>);

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.in_use.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pool {
    pub fn new(limits: PoolLimits) -> Arc<Pool> {
        Arc::new(Pool {
            limits,
            idle: Mutex::default(),
            cap: AtomicUsize::new(limits.connections),
            in_use: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            last_use: Mutex::new(Instant::now()),
            keeps: AtomicBool::new(true),
            wanted: Notify::new(),
        })
    }

    /// False where connections are not used again.
    pub fn is_on(&self) -> bool {
        self.limits.connections > 0
    }

    /// Counts a tunnel, which the caller opens.
    pub fn lease(self: &Arc<Self>) -> Lease {
        let in_use = self.in_use.fetch_add(1, Ordering::Relaxed) + 1;
        self.peak.fetch_max(in_use, Ordering::Relaxed);
        *lock(&self.last_use) = Instant::now();
        Lease(self.clone())
    }

    /// The connection that was used last of those that may carry a tunnel now, rather one that is on this thread. Those that may
    /// not are closed.
    pub fn take(&self, is_current: impl Fn(&AttestedStream) -> bool, tasks: &Tasks) -> Option<AttestedStream> {
        let now = Instant::now();
        loop {
            let mut idle = lock(&self.idle);
            let held = idle.len();
            let Some(mut stream) = take_near(&mut idle) else {
                self.wanted.notify_one();
                return None;
            };
            drop(idle);
            if !(self.may_carry(&stream, now) && is_current(&stream) && self.is_quiet(&mut stream, held)) {
                stream.let_go(tasks);
                continue;
            }
            match stream.move_here() {
                Ok(stream) => return Some(stream),
                Err(error) => tracing::warn!(%error, "a connection could not move between threads"),
            }
        }
    }

    /// Takes a connection back, or closes it.
    pub fn put(&self, mut stream: AttestedStream, tasks: &Tasks) {
        let now = Instant::now();
        stream.rest(now);
        if !stream.is_used() {
            self.keeps.store(stream.may_carry_another(now + WORTH, self.limits.reuse_for), Ordering::Relaxed);
        }
        if !tasks.is_draining() && self.may_carry(&stream, now) {
            let mut idle = lock(&self.idle);
            if idle.len() < self.cap.load(Ordering::Relaxed) {
                idle.push_back(stream);
                return;
            }
        }
        stream.let_go(tasks);
    }

    /// Closes what rested so long that its path may be gone.
    pub(crate) fn forget_rested(&self, tasks: &Tasks) {
        let mut rested = Vec::new();
        let mut idle = lock(&self.idle);
        for stream in std::mem::take(&mut *idle) {
            if stream.needs_probe() { rested.push(stream) } else { idle.push_back(stream) }
        }
        drop(idle);
        for stream in rested {
            stream.let_go(tasks);
        }
    }

    fn may_carry(&self, stream: &AttestedStream, now: Instant) -> bool {
        stream.may_carry_another(now, self.limits.reuse_for)
    }

    /// Nothing came. A guest that has too many idle connections says so; then fewer are kept than the `held` ones, for a while.
    fn is_quiet(&self, stream: &mut AttestedStream, held: usize) -> bool {
        match stream.quiet() {
            Ok(()) => true,
            Err(FramingError::Closed(close)) if close.code == CloseCode::Limit => {
                self.cap.fetch_min((held / 2).max(1), Ordering::Relaxed);
                false
            }
            Err(_) => false,
        }
    }

    /// The guest may have room again.
    fn raise_cap(&self) {
        let more = |cap: usize| Some((cap + cap.div_ceil(8)).min(self.limits.connections));
        let _ = self.cap.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// Drops what may not be used any more and what is too much, until the drain.
    pub async fn keep<F>(self: Arc<Self>, tasks: Tasks, make: impl Fn() -> F)
    where
        F: Future<Output = Result<AttestedStream, OpenError>> + Send + 'static,
    {
        let mut level = 0_usize;
        let (mut pause, mut paused_until) = (FIRST_PAUSE, Instant::now());
        let mut raised = Instant::now();
        while !tasks.is_draining() {
            level =
                self.peak.swap(self.in_use.load(Ordering::Relaxed), Ordering::Relaxed).max(level - level.div_ceil(8));
            if raised.elapsed() >= CAP_RISES {
                raised = Instant::now();
                self.raise_cap();
            }
            let wanted = self.wanted(level);
            // Where nothing is made ahead, what came back stays as long as it may.
            self.look(if self.keeps.load(Ordering::Relaxed) { wanted } else { usize::MAX }, &tasks);
            let missing = wanted.saturating_sub(lock(&self.idle).len()).min(AHEAD);
            if missing > 0 && Instant::now() >= paused_until {
                match self.fill(missing, &tasks, &make).await {
                    true => pause = FIRST_PAUSE,
                    false => {
                        paused_until = Instant::now() + pause;
                        pause = (pause * 2).min(LAST_PAUSE);
                    }
                }
            }
            tokio::select! {
                () = tasks.draining() => break,
                () = sleep(LOOK) => {}
                // A miss in the middle of the second: look again soon, but not at each of a burst.
                () = self.wanted.notified() => { let _ = timeout(LOOK / 20, tasks.draining()).await; }
            }
        }
        for stream in std::mem::take(&mut *lock(&self.idle)) {
            stream.let_go(&tasks);
        }
    }

    /// How many should wait, at this level of demand.
    fn wanted(&self, level: usize) -> usize {
        if !self.keeps.load(Ordering::Relaxed) {
            return 0;
        }
        let warm = usize::from(lock(&self.last_use).elapsed() < WARM_FOR);
        let wanted = (level + level / 4 + warm).saturating_sub(self.in_use.load(Ordering::Relaxed));
        wanted.min(self.cap.load(Ordering::Relaxed))
    }

    fn look(&self, wanted: usize, tasks: &Tasks) {
        let now = Instant::now();
        let mut gone = Vec::new();
        let all = std::mem::take(&mut *lock(&self.idle));
        let held = all.len();
        let surplus = all.len().saturating_sub(wanted).div_ceil(4);
        let mut kept = VecDeque::with_capacity(all.len());
        for (number, mut stream) in all.into_iter().enumerate() {
            // The oldest stand first.
            if number >= surplus && self.may_carry(&stream, now) && self.is_quiet(&mut stream, held) {
                kept.push_back(stream);
            } else {
                gone.push(stream);
            }
        }
        let mut idle = lock(&self.idle);
        kept.append(&mut idle);
        *idle = kept;
        drop(idle);
        for stream in gone {
            stream.let_go(tasks);
        }
    }

    async fn fill<F>(self: &Arc<Self>, missing: usize, tasks: &Tasks, make: &impl Fn() -> F) -> bool
    where
        F: Future<Output = Result<AttestedStream, OpenError>> + Send + 'static,
    {
        let making: Vec<_> = (0..missing)
            .map(|_| {
                let (pool, tasks_of, made) = (self.clone(), tasks.clone(), make());
                let (told, hears) = tokio::sync::oneshot::channel();
                tasks.spawn("warm connection", async move {
                    let made = made.await;
                    let _ = told.send(made.is_ok());
                    match made {
                        Ok(stream) => pool.put(stream, &tasks_of),
                        Err(error) => tracing::debug!(%error, "no connection made ahead"),
                    }
                });
                hears
            })
            .collect();
        let mut all = true;
        for made in making {
            all &= made.await.unwrap_or(false);
        }
        all
    }
}

/// Of the last few, one that is on this thread; else the last.
fn take_near(idle: &mut VecDeque<AttestedStream>) -> Option<AttestedStream> {
    let last = idle.len().checked_sub(1)?;
    let near = (0..=last).rev().take(NEAR).find(|at| idle.get(*at).is_some_and(AttestedStream::is_here));
    idle.remove(near.unwrap_or(last))
}

/// Each statement under the lock leaves the list whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_guest_had_too_many_more_are_tried_again_little_by_little() {
        let pool = Pool::new(PoolLimits { connections: 20, reuse_for: Duration::from_secs(60) });
        pool.cap.store(1, Ordering::Relaxed);
        let caps: Vec<_> = (0..12)
            .map(|_| {
                pool.raise_cap();
                pool.cap.load(Ordering::Relaxed)
            })
            .collect();
        assert_eq!(caps, [2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 15, 17]);
        (0..9).for_each(|_| pool.raise_cap());
        assert_eq!(pool.cap.load(Ordering::Relaxed), 20);
    }
}
