//! One tunnel on an attested connection, as a byte stream.
//!
//! Reading gives the bytes of DATA; `Ok(0)` only after FIN. Writing makes DATA; shutdown makes FIN. Everything else, a
//! CLOSE, a foreign frame, an end of TCP before FIN, is an error: an abort never looks like an end of file.
//!
//! Before ACCEPT the client's side keeps what it sends, so that a guest which closes the connection instead (it was about to
//! when OPEN came) costs the application nothing: docs/protocol.md, "The client's side", says when that may be sent again.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use ratls::text::Untrusted;
use ratls::wire::control::{Accept, Close, CloseCode, Refuse};
use ratls::wire::frame::{FrameType, Header};
use ratls::wire::limits::{FRAME_HEADER, MAX_DATA, MAX_EARLY_DATA_KEPT};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::framing::{Framed, FramingError};
use crate::link::FrameLink;

/// Bytes that went through a tunnel, for metrics and for the idle limit.
#[derive(Debug, Default)]
pub struct Traffic {
    pub sent: AtomicU64,
    pub received: AtomicU64,
    /// ACCEPT came, or was sent.
    pub accepted: AtomicBool,
    /// For how many seconds from ACCEPT the guest lets the connection live; 0 before ACCEPT.
    pub lifetime_secs: AtomicU64,
}

impl Traffic {
    /// Changes whenever a byte passes in either direction.
    pub fn total(&self) -> u64 {
        self.sent.load(Ordering::Relaxed).wrapping_add(self.received.load(Ordering::Relaxed))
    }
}

/// Where our reading stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// The client's side, before ACCEPT for this tunnel number.
    AwaitAccept(u64),
    /// Between frames, or with `n` bytes to come of a DATA frame.
    Data(usize),
    Finished,
}

/// What was sent for a tunnel before its ACCEPT.
#[derive(Debug, Default)]
pub struct Early {
    pub(crate) data: Vec<u8>,
    /// FIN followed.
    pub(crate) ended: bool,
}

impl Early {
    pub fn is_empty(&self) -> bool {
        self.data.is_empty() && !self.ended
    }
}

/// A tunnel over the frames of `S`.
pub struct TunnelStream<S> {
    pub(crate) framed: Framed<S>,
    pub(crate) reading: Reading,
    pub(crate) fin_sent: bool,
    pub(crate) traffic: Arc<Traffic>,
    /// Empty from ACCEPT on.
    early: Early,
    /// ACCEPTs on this connection before this tunnel's.
    accepts: u64,
    /// For how long what is queued may wait for the first bytes to go with.
    pub(crate) hold: Option<Duration>,
}

/// The far side refused the tunnel, or closed the connection: inside an [`io::Error`].
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum TunnelEnd {
    #[error("the guest refused the tunnel: {:?}, {:?}", .0.code, Untrusted(&.0.text))]
    Refused(Refuse),
    #[error("the other side closed the connection: {:?}, {:?}", .0.code, Untrusted(&.0.text))]
    Closed(Close),
}

impl<S: FrameLink> TunnelStream<S> {
    /// The guest's side, after it wrote ACCEPT.
    pub fn accepted(framed: Framed<S>, traffic: Arc<Traffic>) -> Self {
        TunnelStream {
            framed,
            reading: Reading::Data(0),
            fin_sent: false,
            traffic,
            early: Early::default(),
            accepts: 0,
            hold: None,
        }
    }

    /// What is queued may wait for so long in a relay, to go out with the first bytes.
    pub fn holding(self, hold: Duration) -> Self {
        TunnelStream { hold: Some(hold), ..self }
    }

    /// There were `accepts` ACCEPTs on this connection before this tunnel's.
    pub fn after(self, accepts: u64) -> Self {
        TunnelStream { accepts, ..self }
    }

    /// The client's side, after it wrote OPEN for `number`: DATA may follow at once, ACCEPT is due before any DATA.
    pub fn opened(framed: Framed<S>, number: u64, traffic: Arc<Traffic>) -> Self {
        TunnelStream { reading: Reading::AwaitAccept(number), ..Self::accepted(framed, traffic) }
    }

    /// Waits for ACCEPT; REFUSE and CLOSE come as [`TunnelEnd`] inside the error.
    pub async fn wait_accepted(&mut self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_accepted(cx)).await
    }

    /// False on the client's side until ACCEPT was read.
    pub fn is_accepted(&self) -> bool {
        !matches!(self.reading, Reading::AwaitAccept(_))
    }

    /// ACCEPTs on this connection, with this tunnel's.
    pub fn accepts(&self) -> u64 {
        self.accepts + u64::from(self.is_accepted())
    }

    /// True after FIN in both directions: the connection is where it was before OPEN.
    pub fn is_finished(&self) -> bool {
        self.fin_sent && self.framed.has_sent_all() && self.reading == Reading::Finished
    }

    /// After `error`: what was sent, if all of it may be sent again on another connection (docs/protocol.md, "The client's side").
    ///
    /// Only where ACCEPT had not come, and either a CLOSE of a kind that is nobody's fault says that this tunnel was not
    /// accepted, or the connection just ended and nothing had followed OPEN.
    pub fn take_repeatable(&mut self, error: &io::Error) -> Option<Early> {
        if self.is_accepted() {
            return None;
        }
        let end = error.get_ref().and_then(|inner| inner.downcast_ref::<TunnelEnd>());
        let may_repeat = match end {
            Some(TunnelEnd::Closed(close)) => {
                let innocent = matches!(
                    close.code,
                    CloseCode::Done | CloseCode::GoingAway | CloseCode::Idle | CloseCode::Lifetime | CloseCode::Limit
                );
                innocent && close.accepted == self.accepts
            }
            Some(TunnelEnd::Refused(_)) => false,
            None => is_bare_end(error) && self.early.is_empty(),
        };
        may_repeat.then(|| std::mem::take(&mut self.early))
    }

    /// After a failed write: the CLOSE that explains it, if one is here, else the failure.
    pub(crate) fn explain(&mut self, error: io::Error) -> io::Error {
        if self.is_accepted() {
            return error;
        }
        let mut cx = Context::from_waker(std::task::Waker::noop());
        match self.poll_accepted(&mut cx) {
            Poll::Ready(Err(told)) if told.get_ref().is_some_and(|inner| inner.is::<TunnelEnd>()) => told,
            _ => error,
        }
    }

    /// Gives the connection of a finished tunnel back.
    pub fn into_framed(self) -> Framed<S> {
        debug_assert!(self.is_finished());
        self.framed
    }

    /// Writes out what is left of a frame, so that another frame can follow, and gives the connection back.
    pub async fn into_framed_after_drain(mut self) -> io::Result<Framed<S>> {
        std::future::poll_fn(|cx| self.poll_drain(cx)).await?;
        Ok(self.framed)
    }

    pub(crate) fn poll_accepted(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Reading::AwaitAccept(number) = self.reading {
            match self.frame_here()? {
                Some((FrameType::Accept, body)) => {
                    let accept = Accept::parse(&body).map_err(invalid)?;
                    if accept.number != number {
                        return Poll::Ready(Err(invalid(format!("ACCEPT for tunnel {}", accept.number))));
                    }
                    self.reading = Reading::Data(0);
                    self.early = Early::default();
                    self.traffic.lifetime_secs.store(accept.max_lifetime_secs, Ordering::Relaxed);
                    self.traffic.accepted.store(true, Ordering::Relaxed);
                }
                Some((FrameType::Refuse, body)) => {
                    let refuse = Refuse::parse(&body).map_err(invalid)?;
                    if refuse.number != number {
                        return Poll::Ready(Err(invalid(format!("REFUSE for tunnel {}", refuse.number))));
                    }
                    return Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::ConnectionRefused,
                        TunnelEnd::Refused(refuse),
                    )));
                }
                Some((kind, body)) => return Poll::Ready(Err(foreign(kind, &body, "ACCEPT or REFUSE"))),
                None => ready!(self.poll_fill(cx))?,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// A whole frame other than DATA, if one is next and here. DATA itself is read in pieces.
    pub(crate) fn frame_here(&mut self) -> io::Result<Option<(FrameType, BytesMut)>> {
        loop {
            match self.framed.peek_header().map_err(invalid)? {
                Some(Header::Frame { kind, length }) => {
                    if kind != FrameType::Data && self.framed.received.len() < FRAME_HEADER + length {
                        return Ok(None);
                    }
                    self.framed.received.advance(FRAME_HEADER);
                    self.framed.ignored = 0;
                    if kind == FrameType::Data {
                        self.reading = match self.reading {
                            Reading::Data(_) => Reading::Data(length),
                            other => other,
                        };
                        return Ok(Some((kind, BytesMut::new())));
                    }
                    return Ok(Some((kind, self.framed.received.split_to(length))));
                }
                Some(Header::Ignorable { length }) if self.framed.received.len() >= FRAME_HEADER + length => {
                    self.framed.ignore(length).map_err(invalid)?;
                }
                _ => return Ok(None),
            }
        }
    }

    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(self.framed.poll_fill(cx))? {
            0 => Poll::Ready(Err(ended())),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// How many bytes may be sent now: before ACCEPT no more than may be kept, 0 where ACCEPT must come first.
    pub(crate) fn room(&self) -> usize {
        match self.is_accepted() {
            true => MAX_DATA,
            false => MAX_DATA.min(MAX_EARLY_DATA_KEPT - self.early.data.len()),
        }
    }

    /// Notes bytes that were sealed.
    pub(crate) fn note_sent(&mut self, bytes: &[u8]) {
        if !self.is_accepted() {
            self.early.data.extend_from_slice(bytes);
        }
        self.traffic.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    }

    /// FIN came.
    pub(crate) fn finish_reading(&mut self) {
        self.reading = Reading::Finished;
        self.framed.release();
    }

    /// Sends again what was sent on another connection, as the first bytes of this one. `traffic` has counted it there.
    pub fn repeat(&mut self, early: Early, traffic: Arc<Traffic>) -> io::Result<()> {
        traffic.sent.fetch_sub(early.data.len() as u64, Ordering::Relaxed);
        self.traffic = traffic;
        for bytes in early.data.chunks(MAX_DATA) {
            self.framed.push(FrameType::Data, bytes)?;
            self.note_sent(bytes);
        }
        if early.ended {
            self.push_fin()?;
        }
        Ok(())
    }

    /// Seals FIN, once; the caller has drained before, and drains after.
    pub(crate) fn push_fin(&mut self) -> io::Result<()> {
        self.fin_sent = true;
        self.early.ended = !self.is_accepted();
        self.framed.push(FrameType::Fin, &[])
    }

    /// After the far side's FIN nothing but an abort can come while our direction is open; it must not be overlooked,
    /// or our own end would look clean. Looks at what is there, never waits.
    pub(crate) fn check_after_fin(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while self.reading == Reading::Finished {
            match self.frame_here()? {
                Some((kind, body)) => return Err(foreign(kind, &body, "nothing, after FIN,")),
                None => match self.poll_fill(cx) {
                    Poll::Ready(result) => result?,
                    Poll::Pending => break,
                },
            }
        }
        Ok(())
    }

    pub(crate) fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.framed.poll_drain(cx)
    }
}

/// TCP or TLS ended, and nobody said why.
fn is_bare_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

pub(crate) fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the tunnel ended without FIN")
}

pub(crate) fn foreign(kind: FrameType, body: &[u8], wanted: &'static str) -> io::Error {
    match kind {
        FrameType::Close => match Close::parse(body) {
            Ok(close) => io::Error::new(io::ErrorKind::ConnectionAborted, TunnelEnd::Closed(close)),
            Err(error) => invalid(error),
        },
        kind => invalid(FramingError::Unexpected { seen: kind, wanted }),
    }
}

pub(crate) fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl<S: FrameLink> AsyncRead for TunnelStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(this.poll_accepted(cx))?;
        loop {
            match this.reading {
                Reading::Finished => return Poll::Ready(Ok(())),
                Reading::Data(0) => match this.frame_here()? {
                    Some((FrameType::Data, _)) => {}
                    Some((FrameType::Fin, _)) => this.finish_reading(),
                    Some((kind, body)) => return Poll::Ready(Err(foreign(kind, &body, "DATA or FIN"))),
                    None => ready!(this.poll_fill(cx))?,
                },
                Reading::Data(left) if this.framed.received.is_empty() => {
                    debug_assert!(left > 0);
                    ready!(this.poll_fill(cx))?;
                }
                Reading::Data(left) => {
                    let n = left.min(this.framed.received.len()).min(buf.remaining());
                    buf.put_slice(&this.framed.received[..n]);
                    this.framed.received.advance(n);
                    this.framed.release();
                    this.reading = Reading::Data(left - n);
                    this.traffic.received.fetch_add(n as u64, Ordering::Relaxed);
                    return Poll::Ready(Ok(()));
                }
                Reading::AwaitAccept(_) => unreachable!("poll_accepted returned ready"),
            }
        }
    }
}

impl<S: FrameLink> AsyncWrite for TunnelStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.fin_sent {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.check_after_fin(cx)?;
        ready!(self.poll_drain(cx)).map_err(|error| self.explain(error))?;
        if self.room() == 0 {
            ready!(self.poll_accepted(cx))?;
        }
        let n = buf.len().min(self.room());
        let buf = &buf[..n];
        self.framed.push(FrameType::Data, buf)?;
        self.note_sent(buf);
        if let Poll::Ready(result) = self.poll_drain(cx) {
            result?;
        }
        Poll::Ready(Ok(n))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.framed.poll_out(cx)
    }

    /// FIN: our direction has ended cleanly. The connection itself stays.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.fin_sent {
            self.check_after_fin(cx)?;
            ready!(self.poll_drain(cx))?;
            self.push_fin()?;
        }
        self.poll_flush(cx)
    }
}
