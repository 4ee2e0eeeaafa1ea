//! The one place where tasks are spawned, and where they are brought to an end.
//!
//! The life of a process has three phases. *Running*; *draining*, when the listeners stop and what is open may finish;
//! and *ending*, at the drain deadline, when what is left is dropped at its next await. A dropped task closes its sockets
//! without FIN, which the other side takes for an abort and not for an end of file.

use std::collections::HashMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;

use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, JoinHandle};

use crate::net::LocalStream;
use crate::stack;
use crate::workers::Workers;

/// How long dropped tasks get to be dropped: they only wait for their next await.
const ENDING_GRACE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Running,
    Draining,
    Ending,
}

/// Spawns and tracks the tasks of one process (or of one proxy in a test). Cheap to clone; clones share the tasks.
#[derive(Clone)]
pub struct Tasks {
    shared: Arc<Shared>,
    /// Between which connections are divided; without them all stay on the runtime of who spawns.
    workers: Option<Workers>,
}

struct Shared {
    phase: watch::Sender<Phase>,
    next: AtomicU64,
    /// The tasks that have not ended; `None` where nothing can stop one half-way.
    open: Mutex<HashMap<u64, Option<AbortHandle>>>,
    closed: Notify,
}

impl Shared {
    /// Each statement under the lock leaves the table whole.
    fn open(&self) -> MutexGuard<'_, HashMap<u64, Option<AbortHandle>>> {
        self.open.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// How a drain went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Every task finished by itself.
    Clean,
    /// So many tasks were still running at the deadline and were dropped.
    Dropped(usize),
}

impl Tasks {
    #[expect(clippy::new_without_default, reason = "a set of tasks is made once, on purpose")]
    pub fn new() -> Self {
        let phase = watch::Sender::new(Phase::Running);
        Tasks {
            workers: None,
            shared: Arc::new(Shared { phase, next: AtomicU64::new(0), open: Mutex::default(), closed: Notify::new() }),
        }
    }

    /// The same, with connections divided between `workers`.
    pub fn over(self, workers: Workers) -> Self {
        Tasks { workers: Some(workers), ..self }
    }

    /// Serves a connection that was accepted, on the thread that has the fewest.
    pub fn spawn_connection<F, Served>(&self, what: &'static str, stream: LocalStream, serve: F)
    where
        F: FnOnce(LocalStream) -> Served + Send + 'static,
        Served: Future<Output = ()> + Send + 'static,
    {
        let Some(place) = self.workers.as_ref().and_then(Workers::place) else {
            self.spawn(what, serve(stream));
            return;
        };
        let runtime = place.runtime.clone();
        let lost = move |error| tracing::warn!(%error, task = what, "a connection could not move between threads");
        let leaving = match stream.leave() {
            Ok(leaving) => leaving,
            Err(error) => return lost(error),
        };
        let served = async move {
            match leaving.arrive() {
                Ok(stream) => serve(stream).await,
                Err(error) => lost(error),
            }
        };
        self.spawn_on(Some(&runtime), what, Holding::new(served, place));
    }

    /// Runs `future` until it is done or the process is ending. `what` names it in the log should it panic.
    pub fn spawn<F>(&self, what: &'static str, future: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.spawn_on(None, what, future)
    }

    fn spawn_on<F>(&self, runtime: Option<&Handle>, what: &'static str, future: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let open = Open::new(Arc::clone(&self.shared), what);
        let number = open.number;
        // Not an async block: that would hold the future twice, and a connection is one of many.
        let future = Holding { future, _held: open };
        let task = match runtime {
            Some(runtime) => runtime.spawn(future),
            None => tokio::spawn(future),
        };
        if let Some(known) = self.shared.open().get_mut(&number) {
            *known = Some(task.abort_handle());
        }
        if *self.shared.phase.borrow() == Phase::Ending {
            task.abort();
        }
        task
    }

    /// Runs a blocking function on the runtime's blocking threads. It cannot be dropped half-way, and the end of the
    /// process does not wait for it beyond the drain.
    pub fn spawn_blocking<F, T>(&self, what: &'static str, function: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let open = Open::new(Arc::clone(&self.shared), what);
        tokio::task::spawn_blocking(move || {
            let _open = open;
            function()
        })
    }

    /// How many tasks have not ended.
    pub fn open(&self) -> usize {
        self.shared.open().len()
    }

    pub fn is_draining(&self) -> bool {
        *self.shared.phase.borrow() >= Phase::Draining
    }

    /// Becomes ready when the drain begins. Accept loops and idle connections wait on it beside their work.
    pub async fn draining(&self) {
        let mut phase = self.shared.phase.subscribe();
        // An error would mean that the sender is gone, which `self` holds.
        let _ = phase.wait_for(|phase| *phase >= Phase::Draining).await;
    }

    /// Begins the drain without waiting for it.
    pub fn begin_drain(&self) {
        self.advance(Phase::Draining);
    }

    /// Begins the drain, waits for all tasks until `deadline` has passed, then drops the rest.
    pub async fn drain(&self, deadline: Duration) -> Drained {
        self.advance(Phase::Draining);
        if tokio::time::timeout(deadline, self.all_closed()).await.is_ok() {
            return Drained::Clean;
        }
        let left = self.open();
        self.advance(Phase::Ending);
        let running: Vec<_> = self.shared.open().values().flatten().cloned().collect();
        for task in running {
            task.abort();
        }
        let _ = tokio::time::timeout(ENDING_GRACE, self.all_closed()).await;
        Drained::Dropped(left)
    }

    async fn all_closed(&self) {
        loop {
            let mut closed = pin!(self.shared.closed.notified());
            closed.as_mut().enable();
            if self.open() == 0 {
                return;
            }
            closed.await;
        }
    }

    fn advance(&self, to: Phase) {
        self.shared.phase.send_if_modified(|phase| {
            let forward = to > *phase;
            *phase = to.max(*phase);
            forward
        });
    }
}

/// Hyper spawns the streams of HTTP/2 connections through this.
impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.spawn("http", future);
    }
}

pin_project! {
    /// A future, and what is dropped with it.
    pub struct Holding<F, T> {
        #[pin]
        future: F,
        _held: T,
    }
}

impl<F: Future, T> Holding<F, T> {
    pub fn new(future: F, held: T) -> Self {
        Holding { future, _held: held }
    }
}

impl<F: Future, T> Future for Holding<F, T> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let polled = self.project().future.poll(cx);
        stack::wipe_if_marked();
        polled
    }
}

struct Open {
    shared: Arc<Shared>,
    what: &'static str,
    number: u64,
}

impl Open {
    fn new(shared: Arc<Shared>, what: &'static str) -> Self {
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        shared.open().insert(number, None);
        Open { shared, what, number }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(task = self.what, "a task panicked");
        }
        let mut open = self.shared.open();
        let own = open.remove(&self.number);
        let last = open.is_empty();
        drop(open);
        // The handle may be the last thing that keeps the task's memory; not under the lock.
        drop(own);
        if last {
            self.shared.closed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test(start_paused = true)]
    async fn a_drain_waits_for_what_is_open() {
        let tasks = Tasks::new();
        tasks.spawn("test", tokio::time::sleep(Duration::from_secs(5)));
        assert_eq!(tasks.open(), 1);
        assert_eq!(tasks.drain(Duration::from_secs(6)).await, Drained::Clean);
        assert_eq!(tasks.open(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_open_at_the_deadline_is_dropped() {
        let tasks = Tasks::new();
        let (held, dropped) = oneshot::channel::<()>();
        tasks.spawn("test", async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        assert_eq!(tasks.drain(Duration::from_secs(6)).await, Drained::Dropped(1));
        assert!(dropped.await.is_err());
        assert_eq!(tasks.open(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_waits_for_tasks_that_tasks_spawn() {
        let tasks = Tasks::new();
        let inner = tasks.clone();
        tasks.spawn("outer", async move {
            inner.draining().await;
            inner.clone().spawn("inner", tokio::time::sleep(Duration::from_secs(3)));
        });
        let started = tokio::time::Instant::now();
        assert_eq!(tasks.drain(Duration::from_secs(10)).await, Drained::Clean);
        assert_eq!(started.elapsed().as_secs(), 3);
    }

    #[tokio::test]
    async fn says_that_the_drain_has_begun() {
        let tasks = Tasks::new();
        assert!(!tasks.is_draining());
        tasks.begin_drain();
        tasks.draining().await;
        assert!(tasks.is_draining());
    }

    #[tokio::test]
    async fn a_panic_is_counted_back() {
        let tasks = Tasks::new();
        let task = tasks.spawn("test", async { panic!("expected by the test") });
        assert!(task.await.unwrap_err().is_panic());
        assert_eq!(tasks.drain(Duration::from_secs(5)).await, Drained::Clean);
    }
}
