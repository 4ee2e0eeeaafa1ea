//! Bytes between a local socket and a tunnel, until both directions have ended or one end breaks.
//!
//! A clean end of one direction is passed on as such (FIN, shutdown); anything else aborts both sides: CLOSE towards the
//! tunnel, a reset towards the local socket.
//!
//! One task does both directions, each in steps of at most 64 KiB: a read, sealing or opening in place, a write. A direction
//! reads on only when all that it read is written, so a reader that stops stops the writer, and one tunnel holds at most one
//! step per direction here: 82 KiB down, 64 KiB up. While nothing is under way it holds nothing: the room for a step is
//! the thread's.

use std::future::poll_fn;
use std::io::{self, IoSlice, IoSliceMut};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Buf;
use pin_project_lite::pin_project;
use ratls::wire::control::{Close, CloseCode};
use ratls::wire::frame::{FrameType, Header};
use ratls::wire::limits::FRAME_HEADER;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop::unconstrained;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};

use crate::framing::Framed;
use crate::link::{FrameLink, MAX_PLAIN, RECORDS, Scratch, with_scratch};
use crate::net::LocalStream;
use crate::tunnel::{Early, Reading, Traffic, TunnelEnd, TunnelStream, ended, foreign, invalid};

/// How long a half-written frame may take to be written out before a CLOSE.
const DRAIN: Duration = Duration::from_secs(1);
/// Pieces in one write; a batch of full records has five.
const SLICES: usize = 16;

/// How long a relay may go on.
#[derive(Clone, Copy, Debug)]
pub struct RelayLimits {
    /// No byte in either direction for this long; `None` where silence is normal (a long prefill).
    pub idle: Option<Duration>,
    /// The end of the connection's lifetime.
    pub ends: Instant,
    /// Until when ACCEPT must have come; `None` where it has.
    pub accept_by: Option<Instant>,
}

/// Which limit ended a relay; inside an [`io::Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitReached {
    #[error("no byte passed for the idle limit")]
    Idle,
    #[error("the connection reached its lifetime")]
    Lifetime,
    #[error("the guest did not answer OPEN in time")]
    Accept,
}

/// How a relay ended.
pub enum RelayEnd<S> {
    /// FIN in both directions: the connection can be used on or closed as done.
    Finished(Framed<S>),
    /// The connection ended and the tunnel was not accepted: `early` may be sent again on another one. Only at a client.
    NotAccepted { local: LocalStream, early: Early, error: io::Error },
    /// One end broke, or a limit was reached; both sides were told and closed.
    Aborted(io::Error),
}

/// Relays; on an abort resets `local` and sends CLOSE. `local` is reset as well where this future is dropped or the process
/// dies: only an end that the other side announced may look like one.
///
/// Not an `async fn`, and what ends a relay is on the heap: an idle tunnel should hold little.
pub fn relay<S: FrameLink + Send>(
    mut local: LocalStream,
    mut tunnel: TunnelStream<S>,
    traffic: Arc<Traffic>,
    limits: RelayLimits,
) -> impl Future<Output = RelayEnd<S>> + Send {
    local.reset_unless_finished();
    async move {
        let copied = {
            let mut both = Both::new(&mut local, &mut tunnel);
            let mut watch = pin!(Watch::new(&traffic, limits));
            poll_fn(|cx| match both.poll(cx) {
                Poll::Pending => watch.as_mut().poll(cx).map(|reached| Err(Broken::Local(reached))),
                ended => ended,
            })
            .await
        };
        match copied {
            Ok(()) if tunnel.is_finished() => {
                local.finished();
                RelayEnd::Finished(tunnel.into_framed())
            }
            Ok(()) => {
                Box::pin(abort(local, tunnel, io::Error::other("the relay ended before both directions did"))).await
            }
            Err(Broken::Local(error)) => Box::pin(abort(local, tunnel, error)).await,
            Err(Broken::Tunnel(error)) => match tunnel.take_repeatable(&error) {
                Some(early) => RelayEnd::NotAccepted { local, early, error },
                None => Box::pin(abort(local, tunnel, error)).await,
            },
        }
    }
}

/// Which side an error is of.
enum Broken {
    Local(io::Error),
    Tunnel(io::Error),
}

/// Both directions under way.
struct Both<'a, S> {
    local: &'a mut LocalStream,
    tunnel: &'a mut TunnelStream<S>,
    /// Bytes that the local socket has not taken yet, from `at` on.
    held: Vec<u8>,
    at: usize,
    /// The last read filled a record: the next one asks for several.
    bulk: bool,
    /// What was queued before the relay has had its chance to go out with the first bytes.
    begun: bool,
    /// Until when it may wait for them.
    hold: Option<Pin<Box<Sleep>>>,
    /// Our FIN is out.
    sent_fin: bool,
    /// The far side's FIN was passed on.
    passed_fin: bool,
}

impl<'a, S: FrameLink> Both<'a, S> {
    const STRIDE: usize = S::HEAD + MAX_PLAIN + S::TAIL;

    fn new(local: &'a mut LocalStream, tunnel: &'a mut TunnelStream<S>) -> Self {
        let begun = tunnel.framed.has_sent_all();
        let hold = tunnel.hold.filter(|_| !begun).map(|hold| Box::pin(sleep(hold)));
        Both { local, tunnel, held: Vec::new(), at: 0, bulk: false, begun, hold, sent_fin: false, passed_fin: false }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        // Down first: an ACCEPT makes room for what goes up.
        let down = self.poll_down(cx)?;
        let up = self.poll_up(cx)?;
        if down.is_ready() && up.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        while !self.sent_fin {
            if self.begun
                && let Err(error) = ready!(self.tunnel.poll_drain(cx))
            {
                return Poll::Ready(Err(Broken::Tunnel(self.tunnel.explain(error))));
            }
            if self.begun && self.tunnel.fin_sent {
                ready!(self.tunnel.framed.poll_out(cx)).map_err(Broken::Tunnel)?;
                self.sent_fin = true;
                break;
            }
            let framed = &mut self.tunnel.framed;
            framed.stream.owed(&mut framed.out).map_err(Broken::Tunnel)?;
            if self.begun && !framed.has_sent_all() {
                continue;
            }
            if self.tunnel.fin_sent || self.tunnel.room() == 0 {
                if !std::mem::replace(&mut self.begun, true) {
                    continue;
                }
                // `poll_down` waits for ACCEPT and wakes us.
                return Poll::Pending;
            }
            match with_scratch(|scratch| self.poll_step_up(cx, scratch))? {
                Poll::Ready(0) => {
                    self.tunnel.check_after_fin(cx).map_err(Broken::Tunnel)?;
                    self.tunnel.push_fin().map_err(Broken::Tunnel)?;
                    self.begun = true;
                }
                Poll::Ready(_) => self.begun = true,
                Poll::Pending if !self.begun => {
                    if let Some(hold) = &mut self.hold {
                        ready!(hold.as_mut().poll(cx));
                    }
                    self.begun = true;
                }
                Poll::Pending => {
                    let _ = self.tunnel.framed.stream.poll_flush(cx).map_err(Broken::Tunnel)?;
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads from the local socket to where the records will be, seals them, and sends what goes. Ready with how much was read.
    fn poll_step_up(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Poll<Result<usize, Broken>> {
        let room = self.tunnel.room();
        let records = &mut scratch.bytes[..RECORDS * Self::STRIDE];
        let first = S::HEAD + FRAME_HEADER..S::HEAD + MAX_PLAIN;
        let n = if self.bulk && self.tunnel.is_accepted() {
            let mut slots = records.chunks_exact_mut(Self::STRIDE);
            let mut slices: [IoSliceMut<'_>; RECORDS] = std::array::from_fn(|number| {
                let slot = slots.next().unwrap_or_default();
                let begin = if number == 0 { first.start } else { S::HEAD };
                IoSliceMut::new(slot.get_mut(begin..S::HEAD + MAX_PLAIN).unwrap_or_default())
            });
            ready!(self.local.poll_read_vectored(cx, &mut slices)).map_err(Broken::Local)?
        } else {
            let end = first.end.min(first.start + room);
            let mut buffer = ReadBuf::new(&mut records[first.start..end]);
            ready!(Pin::new(&mut *self.local).poll_read(cx, &mut buffer)).map_err(Broken::Local)?;
            buffer.filled().len()
        };
        let (head, rest) = (n.min(first.len()), n.saturating_sub(first.len()));
        self.bulk = head == first.len();
        if n == 0 {
            return Poll::Ready(Ok(0));
        }
        records[S::HEAD..first.start].copy_from_slice(&Header::encode(FrameType::Data, n));
        if self.tunnel.is_accepted() {
            self.tunnel.traffic.sent.fetch_add(n as u64, Ordering::Relaxed);
        } else {
            self.tunnel.note_sent(&records[first.start..first.start + n]);
        }
        let mut end = S::HEAD + FRAME_HEADER + head + S::TAIL;
        let link = &mut self.tunnel.framed.stream;
        link.seal(&mut records[..end]).map_err(Broken::Tunnel)?;
        let mut left = rest;
        while left > 0 {
            let length = S::HEAD + left.min(MAX_PLAIN) + S::TAIL;
            link.seal(&mut records[end..end + length]).map_err(Broken::Tunnel)?;
            end += length;
            left -= left.min(MAX_PLAIN);
        }
        if !self.tunnel.framed.has_sent_all() {
            self.tunnel.framed.out.extend_from_slice(&records[..end]);
            return Poll::Ready(Ok(n));
        }
        let link = &mut self.tunnel.framed.stream;
        let sent = match link.poll_send(cx, &records[..end]) {
            Poll::Ready(sent) => sent.map_err(|error| Broken::Tunnel(self.tunnel.explain(error)))?,
            Poll::Pending => 0,
        };
        self.tunnel.framed.out.extend_from_slice(&records[sent..end]);
        Poll::Ready(Ok(n))
    }

    fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        loop {
            while self.at < self.held.len() {
                let written = ready!(Pin::new(&mut *self.local).poll_write(cx, &self.held[self.at..]));
                self.at += some(written).map_err(Broken::Local)?;
            }
            if self.at > 0 {
                (self.held, self.at) = (Vec::new(), 0);
            }
            if self.passed_fin {
                if !self.sent_fin {
                    self.tunnel.check_after_fin(cx).map_err(Broken::Tunnel)?;
                }
                return Poll::Ready(Ok(()));
            }
            let received = &self.tunnel.framed.received;
            match self.tunnel.reading {
                Reading::AwaitAccept(_) => ready!(self.tunnel.poll_accepted(cx)).map_err(Broken::Tunnel)?,
                Reading::Finished => {
                    ready!(Pin::new(&mut *self.local).poll_shutdown(cx)).map_err(Broken::Local)?;
                    self.passed_fin = true;
                }
                Reading::Data(_) if received.is_empty() => {
                    ready!(with_scratch(|scratch| self.poll_step_down(cx, scratch)))?;
                }
                Reading::Data(0) => match self.tunnel.frame_here().map_err(Broken::Tunnel)? {
                    Some((FrameType::Data, _)) => {}
                    Some((FrameType::Fin, _)) => self.tunnel.finish_reading(),
                    Some((kind, body)) => return Poll::Ready(Err(Broken::Tunnel(foreign(kind, &body, "DATA or FIN")))),
                    None => ready!(self.tunnel.poll_fill(cx)).map_err(Broken::Tunnel)?,
                },
                Reading::Data(left) => {
                    let here = left.min(received.len());
                    let written = ready!(Pin::new(&mut *self.local).poll_write(cx, &received[..here]));
                    let n = some(written).map_err(Broken::Local)?;
                    self.tunnel.framed.received.advance(n);
                    self.tunnel.framed.release();
                    self.tunnel.reading = Reading::Data(left - n);
                    self.tunnel.traffic.received.fetch_add(n as u64, Ordering::Relaxed);
                }
            }
        }
    }

    /// Opens what is there and writes the bytes of DATA from where they were opened. From the first other frame, or the first
    /// that is cut, everything goes to `received`, to be looked at frame by frame.
    fn poll_step_down(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Poll<Result<(), Broken>> {
        let framed = &mut self.tunnel.framed;
        let n = ready!(framed.stream.poll_open(cx, scratch)).map_err(Broken::Tunnel)?;
        if n == 0 {
            return Poll::Ready(Err(Broken::Tunnel(ended())));
        }
        let Reading::Data(mut left) = self.tunnel.reading else {
            return Poll::Ready(Err(Broken::Tunnel(invalid("not in a tunnel"))));
        };
        let mut slices = [IoSlice::new(&[]); SLICES];
        let (mut used, mut total) = (0, 0);
        for piece in &scratch.pieces {
            let mut bytes = &scratch.bytes[piece.clone()];
            while !bytes.is_empty() {
                if used == SLICES || !framed.received.is_empty() {
                    framed.received.extend_from_slice(bytes);
                    break;
                }
                if left == 0 {
                    match bytes.split_first_chunk::<FRAME_HEADER>().map(|(header, rest)| (Header::parse(*header), rest))
                    {
                        Some((Ok(Header::Frame { kind: FrameType::Data, length }), rest)) => {
                            framed.ignored = 0;
                            (left, bytes) = (length, rest);
                        }
                        _ => {
                            framed.received.extend_from_slice(bytes);
                            break;
                        }
                    }
                }
                let (data, rest) = bytes.split_at(left.min(bytes.len()));
                (left, bytes) = (left - data.len(), rest);
                if !data.is_empty() {
                    slices[used] = IoSlice::new(data);
                    (used, total) = (used + 1, total + data.len());
                }
            }
        }
        self.tunnel.reading = Reading::Data(left);
        self.tunnel.traffic.received.fetch_add(total as u64, Ordering::Relaxed);
        if total == 0 {
            return Poll::Ready(Ok(()));
        }
        let mut slices = &mut slices[..used];
        let written = match Pin::new(&mut *self.local).poll_write_vectored(cx, slices) {
            Poll::Ready(written) => some(written).map_err(Broken::Local)?,
            Poll::Pending => 0,
        };
        if written < total {
            IoSlice::advance_slices(&mut slices, written);
            self.held.reserve_exact(total - written);
            for slice in slices {
                self.held.extend_from_slice(slice);
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// A write that takes nothing would be tried for ever.
fn some(written: io::Result<usize>) -> io::Result<usize> {
    match written {
        Ok(0) => Err(io::ErrorKind::WriteZero.into()),
        other => other,
    }
}

async fn abort<S: FrameLink>(local: LocalStream, tunnel: TunnelStream<S>, error: io::Error) -> RelayEnd<S> {
    local.abort();
    let inner = error.get_ref();
    let end = inner.and_then(|inner| inner.downcast_ref::<TunnelEnd>());
    if !matches!(end, Some(TunnelEnd::Closed(_))) {
        let code = match inner.and_then(|inner| inner.downcast_ref::<LimitReached>()) {
            Some(LimitReached::Idle) => CloseCode::Idle,
            Some(LimitReached::Lifetime) => CloseCode::Lifetime,
            Some(LimitReached::Accept) => CloseCode::Deadline,
            None if end.is_some() => CloseCode::Done,
            None if error.kind() == io::ErrorKind::InvalidData => CloseCode::Protocol,
            None => CloseCode::Abort,
        };
        let accepted = tunnel.accepts();
        let close = Close { accepted, ..Close::new(code, "the tunnel was aborted") };
        // A CLOSE inside a half-written DATA frame would be data: if the rest cannot be written, TCP just ends.
        if let Ok(Ok(framed)) = timeout(DRAIN, tunnel.into_framed_after_drain()).await {
            framed.close(&close).await;
        }
    }
    RelayEnd::Aborted(error)
}

pin_project! {
    /// Completes when a limit is reached, with what to say. One timer, at the first limit that may be reached.
    struct Watch<'a> {
        #[pin]
        timer: Sleep,
        traffic: &'a Traffic,
        limits: RelayLimits,
        // What had passed when the idle limit began to run.
        seen: u64,
        idle_ends: Option<Instant>,
    }
}

impl<'a> Watch<'a> {
    fn new(traffic: &'a Traffic, limits: RelayLimits) -> Self {
        let idle_ends = limits.idle.map(|idle| Instant::now() + idle);
        let first = first_of([Some(limits.ends), limits.accept_by, idle_ends]);
        Watch { timer: sleep_until(first.unwrap_or(limits.ends)), traffic, limits, seen: traffic.total(), idle_ends }
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Error> {
        let mut this = self.project();
        loop {
            // Outside of the task's budget: traffic that uses it up must not keep the timer from being seen.
            ready!(Pin::new(&mut unconstrained(this.timer.as_mut())).poll(cx));
            let now = Instant::now();
            let accepted = this.traffic.accepted.load(Ordering::Relaxed);
            let accept_by = this.limits.accept_by.filter(|_| !accepted);
            if now >= this.limits.ends {
                return Poll::Ready(reached(LimitReached::Lifetime));
            }
            if accept_by.is_some_and(|by| now >= by) {
                return Poll::Ready(reached(LimitReached::Accept));
            }
            if let Some(idle) = this.limits.idle
                && this.idle_ends.is_some_and(|ends| now >= ends)
            {
                let total = this.traffic.total();
                if std::mem::replace(this.seen, total) == total {
                    return Poll::Ready(reached(LimitReached::Idle));
                }
                *this.idle_ends = Some(now + idle);
            }
            let next = first_of([Some(this.limits.ends), accept_by, *this.idle_ends]);
            this.timer.as_mut().reset(next.unwrap_or(this.limits.ends));
        }
    }
}

fn first_of(times: [Option<Instant>; 3]) -> Option<Instant> {
    times.into_iter().flatten().min()
}

fn reached(limit: LimitReached) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, limit)
}
