//! The TPM's thread: one command at a time, and never on the runtime.
//!
//! Batches come before credentials: a stranger can cause a CRED, and must not make everybody's evidence wait for more than
//! the one command that is running. What nobody waits for any more is not begun.

use super::{Tpm, TpmError};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;
use tokio::sync::oneshot;

/// For one job: the slowest command, an RSA key made in a software TPM, takes seconds.
const ANSWER: Duration = Duration::from_secs(30);
/// Credentials that may wait: more would wait longer than a client does.
const MAX_WAITING: usize = 64;

type Job = Box<dyn FnOnce(&mut Tpm) + Send>;

/// More credentials wait than can be answered soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many requests wait for the TPM")]
pub struct QueueFull;

/// The door to the thread. Clones lead to the same TPM; the thread ends with the last of them.
#[derive(Clone)]
pub struct TpmQueue {
    door: Arc<Door>,
    answer: Duration,
}

struct Door {
    shared: Arc<Shared>,
}

struct Shared {
    waiting: Mutex<Waiting>,
    wake: Condvar,
}

#[derive(Default)]
struct Waiting {
    first: VecDeque<Job>,
    later: VecDeque<Job>,
    closed: bool,
}

impl TpmQueue {
    /// Gives the TPM to a thread of its own.
    pub fn start(tpm: Tpm) -> Result<Self, TpmError> {
        let shared = Arc::new(Shared { waiting: Mutex::default(), wake: Condvar::new() });
        let of_thread = shared.clone();
        std::thread::Builder::new()
            .name("tpm".into())
            .spawn(move || of_thread.serve(tpm))
            .map_err(|_| TpmError::Ended)?;
        Ok(TpmQueue { door: Arc::new(Door { shared }), answer: ANSWER })
    }

    /// Another patience with a TPM that does not answer at all.
    pub fn with_answer(self, answer: Duration) -> Self {
        TpmQueue { answer, ..self }
    }

    /// Has this done before everything else that waits, and blocks until it is. For the thread of the batcher.
    pub fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Tpm) -> Result<T, TpmError> + Send + 'static,
    ) -> Result<T, TpmError> {
        let (reply, answer) = mpsc::sync_channel(1);
        let given_up = Arc::new(AtomicBool::new(false));
        let skip = given_up.clone();
        let job: Job = Box::new(move |tpm| {
            if !skip.load(Ordering::Acquire) {
                // Nobody is there where the caller gave up meanwhile.
                let _ = reply.try_send(job(tpm));
            }
        });
        self.door.shared.put(|waiting| waiting.first.push_back(job));
        answer.recv_timeout(self.answer).unwrap_or_else(|error| {
            given_up.store(true, Ordering::Release);
            Err(match error {
                mpsc::RecvTimeoutError::Timeout => TpmError::TimedOut { waited: self.answer },
                mpsc::RecvTimeoutError::Disconnected => TpmError::Ended,
            })
        })
    }

    /// Has this done when no batch waits; does not block.
    pub fn later<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Tpm) -> T + Send + 'static,
    ) -> Result<oneshot::Receiver<T>, QueueFull> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |tpm| {
            if !reply.is_closed() {
                let _ = reply.send(job(tpm));
            }
        });
        let mut taken = false;
        self.door.shared.put(|waiting| {
            if waiting.later.len() < MAX_WAITING {
                waiting.later.push_back(job);
                taken = true;
            }
        });
        if taken { Ok(answer) } else { Err(QueueFull) }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.shared.put(|waiting| waiting.closed = true);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, change: impl FnOnce(&mut Waiting)) {
        change(&mut self.lock());
        self.wake.notify_one();
    }

    fn serve(&self, mut tpm: Tpm) {
        while let Some(job) = self.next() {
            job(&mut tpm);
        }
    }

    /// The next job; `None` when the last door is closed.
    fn next(&self) -> Option<Job> {
        let mut waiting = self.lock();
        loop {
            if waiting.closed {
                return None;
            }
            if let Some(job) = waiting.first.pop_front() {
                return Some(job);
            }
            if let Some(job) = waiting.later.pop_front() {
                return Some(job);
            }
            waiting = self.wake.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tpm::{Address, Link};

    struct Dead;
    impl Link for Dead {
        fn transmit(&mut self, _: &[u8]) -> std::io::Result<Vec<u8>> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
    }

    fn queue() -> TpmQueue {
        TpmQueue::start(Tpm::over(Address::Unix("/nowhere".into()), Box::new(Dead))).unwrap()
    }

    #[test]
    fn a_quote_goes_before_the_credentials_that_wait() {
        let queue = queue();
        let (hold, held) = mpsc::channel::<()>();
        let (running, began) = mpsc::channel();
        let first = queue
            .later(move |_| {
                running.send(()).unwrap();
                held.recv().unwrap();
            })
            .unwrap();
        began.recv().unwrap();
        let (order, seen) = mpsc::channel();
        let of_credential = order.clone();
        let second = queue.later(move |_| of_credential.send("credential").unwrap()).unwrap();
        let other = queue.clone();
        let quote = move |_: &mut Tpm| order.send("quote").map_err(|_| TpmError::Ended);
        let quote = std::thread::spawn(move || other.call(quote));
        while queue.door.shared.lock().first.is_empty() {
            std::thread::yield_now();
        }
        hold.send(()).unwrap();
        quote.join().unwrap().unwrap();
        first.blocking_recv().unwrap();
        second.blocking_recv().unwrap();
        assert_eq!(seen.iter().collect::<Vec<_>>(), ["quote", "credential"]);
    }

    #[test]
    fn what_nobody_waits_for_is_not_begun_and_what_is_too_much_is_refused() {
        let queue = queue();
        let (hold, held) = mpsc::channel::<()>();
        let (running, began) = mpsc::channel();
        let first = queue
            .later(move |_| {
                running.send(()).unwrap();
                held.recv().unwrap();
            })
            .unwrap();
        began.recv().unwrap();
        let done = Arc::new(AtomicBool::new(false));
        let mark = done.clone();
        drop(queue.later(move |_| mark.store(true, Ordering::SeqCst)).unwrap());
        let rest: Vec<_> = (1..MAX_WAITING).map(|_| queue.later(|_| ()).unwrap()).collect();
        assert_eq!(queue.later(|_| ()).err(), Some(QueueFull));
        hold.send(()).unwrap();
        first.blocking_recv().unwrap();
        rest.into_iter().for_each(|waiting| waiting.blocking_recv().unwrap());
        assert!(!done.load(Ordering::SeqCst));
    }

    #[test]
    fn a_link_that_broke_is_an_error_for_one_caller_and_not_the_end() {
        let queue = queue();
        for _ in 0..2 {
            assert!(matches!(queue.call(|tpm| tpm.public(1)), Err(TpmError::Io { .. })));
        }
    }
}
