//! One tunnel on an attested connection, as a byte stream.
//!
//! Reading gives the bytes of DATA; `Ok(0)` only after FIN. Writing makes DATA; shutdown makes FIN. Everything else, a
//! CLOSE, a foreign frame, an end of TCP before FIN, is an error: an abort never looks like an end of file.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use ratls::wire::control::{Accept, Close, Refuse};
use ratls::wire::frame::{FrameType, Header};
use ratls::wire::limits::{FRAME_HEADER, MAX_DATA};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::framing::{Framed, FramingError};

/// Bytes that went through a tunnel, for metrics and for the idle limit.
#[derive(Debug, Default)]
pub struct Traffic {
    pub sent: AtomicU64,
    pub received: AtomicU64,
    /// ACCEPT came, or was sent.
    pub accepted: AtomicBool,
}

impl Traffic {
    /// Changes whenever a byte passes in either direction.
    pub fn total(&self) -> u64 {
        self.sent.load(Ordering::Relaxed).wrapping_add(self.received.load(Ordering::Relaxed))
    }
}

/// Where our reading stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// The client's side, before ACCEPT for this tunnel number.
    AwaitAccept(u64),
    /// Between frames, or `n` bytes into a DATA frame.
    Data(usize),
    Finished,
}

/// A tunnel over the frames of `S`.
pub struct TunnelStream<S> {
    framed: Framed<S>,
    reading: Reading,
    fin_sent: bool,
    traffic: Arc<Traffic>,
}

/// The far side refused the tunnel, or closed the connection: inside an [`io::Error`].
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum TunnelEnd {
    #[error("the guest refused the tunnel: {:?}, {:?}", .0.code, .0.text)]
    Refused(Refuse),
    #[error("the other side closed the connection: {:?}, {:?}", .0.code, .0.text)]
    Closed(Close),
}

impl<S: AsyncRead + AsyncWrite + Unpin> TunnelStream<S> {
    /// The guest's side, after it wrote ACCEPT.
    pub fn accepted(framed: Framed<S>, traffic: Arc<Traffic>) -> Self {
        TunnelStream { framed, reading: Reading::Data(0), fin_sent: false, traffic }
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

    /// True after FIN in both directions: the connection is where it was before OPEN.
    pub fn is_finished(&self) -> bool {
        self.fin_sent && self.framed.out.is_empty() && self.reading == Reading::Finished
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

    fn poll_accepted(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Reading::AwaitAccept(number) = self.reading {
            match self.frame_here()? {
                Some((FrameType::Accept, body)) => {
                    let accept = Accept::parse(&body).map_err(invalid)?;
                    if accept.number != number {
                        return Poll::Ready(Err(invalid(format!("ACCEPT for tunnel {}", accept.number))));
                    }
                    self.reading = Reading::Data(0);
                    self.traffic.accepted.store(true, Ordering::Relaxed);
                }
                Some((FrameType::Refuse, body)) => {
                    let refuse = Refuse::parse(&body).map_err(invalid)?;
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
    fn frame_here(&mut self) -> io::Result<Option<(FrameType, BytesMut)>> {
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

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        const CHUNK: usize = FRAME_HEADER + MAX_DATA;
        self.framed.received.reserve(CHUNK);
        let n = ready!(poll_read_buf(Pin::new(&mut self.framed.stream), cx, &mut self.framed.received))?;
        if n == 0 {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the tunnel ended without FIN")));
        }
        Poll::Ready(Ok(()))
    }

    /// After the far side's FIN nothing but an abort can come while our direction is open; it must not be overlooked,
    /// or our own end would look clean. Looks at what is there, never waits.
    fn check_after_fin(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
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

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Framed { stream, out, .. } = &mut self.framed;
        while !out.is_empty() {
            let n = ready!(Pin::new(&mut *stream).poll_write(cx, out))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            out.advance(n);
        }
        Poll::Ready(Ok(()))
    }
}

/// `poll_read` into the spare room of a `BytesMut`, without zeroing it again and again.
fn poll_read_buf<S: AsyncRead>(
    stream: Pin<&mut S>,
    cx: &mut Context<'_>,
    buf: &mut BytesMut,
) -> Poll<io::Result<usize>> {
    use tokio::io::AsyncReadExt as _;
    let mut stream = stream;
    let future = std::pin::pin!(async { stream.read_buf(buf).await });
    future.poll(cx)
}

fn foreign(kind: FrameType, body: &[u8], wanted: &'static str) -> io::Error {
    match kind {
        FrameType::Close => match Close::parse(body) {
            Ok(close) => io::Error::new(io::ErrorKind::ConnectionAborted, TunnelEnd::Closed(close)),
            Err(error) => invalid(error),
        },
        kind => invalid(FramingError::Unexpected { seen: kind, wanted }),
    }
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TunnelStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(this.poll_accepted(cx))?;
        loop {
            match this.reading {
                Reading::Finished => return Poll::Ready(Ok(())),
                Reading::Data(0) => match this.frame_here()? {
                    Some((FrameType::Data, _)) => {}
                    Some((FrameType::Fin, _)) => this.reading = Reading::Finished,
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
                    this.reading = Reading::Data(left - n);
                    this.traffic.received.fetch_add(n as u64, Ordering::Relaxed);
                    return Poll::Ready(Ok(()));
                }
                Reading::AwaitAccept(_) => unreachable!("poll_accepted returned ready"),
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TunnelStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.fin_sent {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.check_after_fin(cx)?;
        ready!(self.poll_drain(cx))?;
        let n = buf.len().min(MAX_DATA);
        let out = &mut self.framed.out;
        out.reserve(FRAME_HEADER + n);
        out.extend_from_slice(&Header::encode(FrameType::Data, n));
        out.extend_from_slice(&buf[..n]);
        self.traffic.sent.fetch_add(n as u64, Ordering::Relaxed);
        if let Poll::Ready(result) = self.poll_drain(cx) {
            result?;
        }
        Poll::Ready(Ok(n))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.framed.stream).poll_flush(cx)
    }

    /// FIN: our direction has ended cleanly. The connection itself stays.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.fin_sent {
            self.check_after_fin(cx)?;
            ready!(self.poll_drain(cx))?;
            self.fin_sent = true;
            let header = Header::encode(FrameType::Fin, 0);
            self.framed.out.extend_from_slice(&header);
        }
        self.poll_flush(cx)
    }
}
