//! How long a client of the proxy port may take, and for what.
//!
//! Hyper's own header timeout also runs while a kept connection rests between two requests; here the two are apart.
//! The stream itself reports when bytes pass, so the deadlines need nothing from hyper.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::first_line::{FirstLine, RefusedTarget, is_empty_answer};

/// The limits of one connection to the proxy port.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// From the first byte of a request (for the first request: from the accept) to the end of its head.
    pub request_head: Duration,
    /// Between two requests.
    pub keep_alive: Duration,
    /// Without a byte in either direction while a request is served. None: a long prefill is silent for minutes.
    pub idle: Option<Duration>,
    /// Of the whole connection, from the accept.
    pub lifetime: Option<Duration>,
}

/// Which deadline passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Expired {
    #[error("the head of the request did not arrive in time")]
    RequestHead,
    #[error("no further request came")]
    KeepAlive,
    #[error("no byte passed in the idle limit")]
    Idle,
    #[error("the connection reached its lifetime")]
    Lifetime,
}

/// Shared by the stream, the exchanges on it, and the loop that enforces the deadlines.
pub(super) struct Clock {
    deadlines: Deadlines,
    started: Instant,
    state: Mutex<State>,
}

struct State {
    phase: Phase,
    first_line: FirstLine,
    last_byte: Instant,
}

#[derive(Clone, Copy)]
enum Phase {
    Head { since: Instant },
    Between { since: Instant },
    Exchange,
}

impl Clock {
    pub(super) fn start(deadlines: Deadlines) -> Arc<Clock> {
        let started = Instant::now();
        let phase = Phase::Head { since: started };
        let state = State { phase, first_line: FirstLine::default(), last_byte: started };
        Arc::new(Clock { deadlines, started, state: Mutex::new(state) })
    }

    /// A request is being served until the value is dropped.
    pub(super) fn exchange(self: &Arc<Clock>) -> Exchange {
        let mut state = self.lock();
        state.phase = Phase::Exchange;
        let has_empty_path = std::mem::take(&mut state.first_line).has_empty_path();
        drop(state);
        Exchange { clock: Arc::clone(self), has_empty_path }
    }

    /// Why hyper does not take the target of the request that is arriving, if that is known.
    pub(super) fn refused_target(&self) -> Option<RefusedTarget> {
        let state = self.lock();
        matches!(state.phase, Phase::Head { .. }).then(|| state.first_line.refused_target()).flatten()
    }

    fn wrote(&self) {
        self.lock().last_byte = Instant::now();
    }

    fn read(&self, bytes: &[u8]) {
        let now = Instant::now();
        let mut state = self.lock();
        state.last_byte = now;
        if matches!(state.phase, Phase::Between { .. }) {
            state.phase = Phase::Head { since: now };
            state.first_line = FirstLine::default();
        }
        if matches!(state.phase, Phase::Head { .. }) {
            state.first_line.push(bytes);
        }
    }

    fn next_deadline(&self) -> Option<(Instant, Expired)> {
        let state = self.lock();
        let of_phase = match state.phase {
            Phase::Head { since } => Some((since + self.deadlines.request_head, Expired::RequestHead)),
            Phase::Between { since } => Some((since + self.deadlines.keep_alive, Expired::KeepAlive)),
            Phase::Exchange => self.deadlines.idle.map(|idle| (state.last_byte + idle, Expired::Idle)),
        };
        let of_all = self.deadlines.lifetime.map(|lifetime| (self.started + lifetime, Expired::Lifetime));
        of_phase.into_iter().chain(of_all).min_by_key(|(at, _)| *at)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the clock")
    }
}

/// One request and its response.
pub(super) struct Exchange {
    clock: Arc<Clock>,
    /// The request's target ended with its authority, as far as its first line was seen.
    pub(super) has_empty_path: bool,
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.clock.lock().phase = Phase::Between { since: Instant::now() };
    }
}

/// Wakes its task when a deadline of `clock` passes.
pub(super) struct Watch {
    clock: Arc<Clock>,
    sleep: Pin<Box<Sleep>>,
}

impl Watch {
    pub(super) fn new(clock: Arc<Clock>) -> Watch {
        let first = clock.next_deadline().map_or_else(Instant::now, |(at, _)| at);
        Watch { clock, sleep: Box::pin(tokio::time::sleep_until(first)) }
    }

    /// The timer is set anew only when it fires or must fire earlier, not for every byte that moves the deadline on.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Expired> {
        loop {
            let Some((at, expired)) = self.clock.next_deadline() else { return Poll::Pending };
            if at < self.sleep.deadline() {
                self.sleep.as_mut().reset(at);
            }
            ready!(self.sleep.as_mut().poll(cx));
            if at <= Instant::now() {
                return Poll::Ready(expired);
            }
            self.sleep.as_mut().reset(at);
        }
    }
}

/// A stream that tells `clock` when bytes pass.
pub(super) struct Timed<T> {
    stream: T,
    clock: Arc<Clock>,
}

impl<T> Timed<T> {
    pub(super) fn new(stream: T, clock: Arc<Clock>) -> Timed<T> {
        Timed { stream, clock }
    }
    pub(super) fn into_inner(self) -> T {
        self.stream
    }

    /// hyper's answer to a target that it does not take says nothing; ours follows instead.
    fn replaces(&self, bytes: &[u8]) -> bool {
        is_empty_answer(bytes) && self.clock.refused_target().is_some()
    }

    fn wrote(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(result, Poll::Ready(Ok(1..))) {
            self.clock.wrote();
        }
        result
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Timed<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if let Some(bytes @ [_, ..]) = buffer.filled().get(before..) {
            self.clock.read(bytes);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Timed<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.replaces(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(result)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [bytes] = slices
            && self.replaces(bytes)
        {
            return Poll::Ready(Ok(bytes.len()));
        }
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.wrote(result)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
