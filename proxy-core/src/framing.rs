//! Frames over a TLS stream: whole control frames in, whole frames out, and how a connection is closed so that the other
//! side learns why.
//!
//! Bodies are bounded by `ratls::wire` before a byte of them is kept. Deadlines are the caller's.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ratls::text::Untrusted;
use ratls::wire::cbor::CborError;
use ratls::wire::control::{Close, CloseCode};
use ratls::wire::frame::{FrameError, FrameType, Header};
use ratls::wire::limits::{FRAME_HEADER, MAX_IGNORED};
use tokio::time::timeout;

use crate::link::{FrameLink, MAX_PLAIN, Sendable, with_scratch};
use crate::tls::records::RecordError;

/// How long a closer reads on, so that a reset cannot eat its CLOSE (docs/protocol.md, "Ends").
const LINGER: Duration = Duration::from_secs(2);
/// An empty buffer above this size is given back: most connections are idle most of the time.
const KEPT: usize = 1024;

/// One frame, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: FrameType,
    pub body: Bytes,
}

/// Why no frame came.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FramingError {
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    #[error("the connection ended without CLOSE")]
    Ended,
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("a {kind:?} frame does not parse: {source}")]
    Body { kind: FrameType, source: CborError },
    #[error("a {seen:?} frame where {wanted} was due")]
    Unexpected { seen: FrameType, wanted: &'static str },
    #[error("the other side closed: {:?}, {:?}", .0.code, Untrusted(&.0.text))]
    Closed(Close),
}

impl FramingError {
    /// The CLOSE that tells the other side; `None` where it is of no use.
    pub fn close(&self) -> Option<Close> {
        match self {
            FramingError::Frame(_) | FramingError::Body { .. } | FramingError::Unexpected { .. } => {
                Some(Close::new(CloseCode::Protocol, self.to_string()))
            }
            // The link ends with an alert instead of it.
            FramingError::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<RecordError>()) => {
                Some(Close::new(CloseCode::Protocol, ""))
            }
            FramingError::Io(_) | FramingError::Ended | FramingError::Closed(_) => None,
        }
    }
}

/// A link with frames on it.
pub struct Framed<S> {
    pub(crate) stream: S,
    pub(crate) received: BytesMut,
    /// Sealed bytes on their way to the link: at most what one step makes, a frame or a batch of records.
    pub(crate) out: Vec<u8>,
    pub(crate) sent: usize,
    pub(crate) ignored: usize,
}

impl<S: FrameLink> Framed<S> {
    pub fn new(stream: S) -> Self {
        Framed { stream, received: BytesMut::new(), out: Vec::new(), sent: 0, ignored: 0 }
    }

    /// As [`Framed::new`], where bytes after the handshake are here already.
    pub fn with_received(stream: S, received: &[u8]) -> Self {
        Framed { received: received.into(), ..Framed::new(stream) }
    }

    /// The frames go on over another link, which has what this one had.
    pub fn over<T: FrameLink>(self, change: impl FnOnce(S) -> io::Result<T>) -> io::Result<Framed<T>> {
        let Framed { stream, received, out, sent, ignored } = self;
        debug_assert!(sent == out.len(), "what was sealed for one link is of no use to another");
        Ok(Framed { stream: change(stream)?, received, out: Vec::new(), sent: 0, ignored })
    }

    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// For the TLS driver's own steps (the handshake); frames are read and written through this object only.
    pub fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// The next frame that is not ignorable. A CLOSE comes as [`FramingError::Closed`].
    ///
    /// Cancel-safe: a part of a frame stays in the buffer.
    pub async fn read(&mut self) -> Result<Frame, FramingError> {
        loop {
            if let Some(frame) = self.parse()? {
                if frame.kind == FrameType::Close {
                    return Err(self.told(frame));
                }
                return Ok(frame);
            }
            self.fill().await?;
        }
    }

    /// Takes one whole frame out of what was received, skipping ignorable ones.
    fn parse(&mut self) -> Result<Option<Frame>, FramingError> {
        while let Some(header) = self.peek_header()? {
            match header {
                Header::Frame { kind, length } if self.received.len() >= FRAME_HEADER + length => {
                    let _ = self.received.split_to(FRAME_HEADER);
                    let body = self.received.split_to(length).freeze();
                    self.release();
                    self.ignored = 0;
                    return Ok(Some(Frame { kind, body }));
                }
                Header::Ignorable { length } if self.received.len() >= FRAME_HEADER + length => {
                    self.ignore(length)?;
                }
                _ => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Drops an ignorable frame that is whole; too many of them in a row are a flood.
    pub(crate) fn ignore(&mut self, length: usize) -> Result<(), FramingError> {
        self.ignored += FRAME_HEADER + length;
        if self.ignored > MAX_IGNORED {
            return Err(FrameError::IgnorableTooLong { length: self.ignored, limit: MAX_IGNORED }.into());
        }
        let _ = self.received.split_to(FRAME_HEADER + length);
        self.release();
        Ok(())
    }

    /// Gives an empty buffer back.
    pub(crate) fn release(&mut self) {
        if self.received.is_empty() {
            self.received = BytesMut::new();
        }
    }

    /// The header of the next frame, if its four bytes are here.
    pub(crate) fn peek_header(&self) -> Result<Option<Header>, FramingError> {
        match self.received.first_chunk::<FRAME_HEADER>() {
            Some(bytes) => Ok(Some(Header::parse(*bytes)?)),
            None => Ok(None),
        }
    }

    async fn fill(&mut self) -> Result<(), FramingError> {
        match poll_fn(|cx| self.poll_fill(cx)).await {
            Ok(0) => Err(FramingError::Ended),
            Ok(_) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err(FramingError::Ended),
            Err(e) => Err(e.into()),
        }
    }

    /// Reads once into `received`; 0 at the end.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        with_scratch(|scratch| {
            let n = ready!(self.stream.poll_open(cx, scratch))?;
            self.received.reserve(n);
            for piece in &scratch.pieces {
                self.received.extend_from_slice(&scratch.bytes[piece.clone()]);
            }
            Poll::Ready(Ok(n))
        })
    }

    /// Whether nothing has come and the connection stands: looks, and does not wait. What came instead is the error.
    pub fn quiet(&mut self) -> Result<(), FramingError> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        loop {
            match self.parse()? {
                Some(frame) => return Err(self.told(frame)),
                // Part of a frame may be the beginning of an answer to nothing as well as of a CLOSE.
                None => match self.poll_fill(&mut cx) {
                    Poll::Pending if self.received.is_empty() => return Ok(()),
                    Poll::Pending | Poll::Ready(Ok(0)) => return Err(FramingError::Ended),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(error)) => return Err(error.into()),
                },
            }
        }
    }

    fn told(&self, frame: Frame) -> FramingError {
        match frame.kind {
            FrameType::Close => match Close::parse(&frame.body) {
                Ok(close) => FramingError::Closed(close),
                Err(source) => FramingError::Body { kind: FrameType::Close, source },
            },
            seen => FramingError::Unexpected { seen, wanted: "nothing" },
        }
    }

    /// Writes one frame and flushes.
    ///
    /// Cancel-safe in this sense: the frame of a dropped future goes out whole, before the next one, or not at all.
    pub async fn write(&mut self, kind: FrameType, body: &[u8]) -> io::Result<()> {
        poll_fn(|cx| self.poll_drain(cx)).await?;
        self.push(kind, body)?;
        poll_fn(|cx| self.poll_out(cx)).await
    }

    /// Seals one frame, to go out with what is written next.
    pub fn queue(&mut self, kind: FrameType, body: &[u8]) -> io::Result<()> {
        self.push(kind, body)
    }

    /// True where bytes have come that nobody has looked at.
    pub fn has_received(&self) -> bool {
        !self.received.is_empty()
    }

    /// Seals one frame behind what is on its way. The caller has drained before, and drains after.
    pub(crate) fn push(&mut self, kind: FrameType, body: &[u8]) -> io::Result<()> {
        self.stream.owed(&mut self.out)?;
        let header = Header::encode(kind, body.len());
        let first = body.len().min(MAX_PLAIN - FRAME_HEADER);
        let (first, rest) = body.split_at(first);
        self.push_record(&header, first)?;
        for record in rest.chunks(MAX_PLAIN) {
            self.push_record(&[], record)?;
        }
        Ok(())
    }

    fn push_record(&mut self, header: &[u8], bytes: &[u8]) -> io::Result<()> {
        let begin = self.out.len();
        self.out.reserve(S::HEAD + header.len() + bytes.len() + S::TAIL);
        self.out.resize(begin + S::HEAD, 0);
        self.out.extend_from_slice(header);
        self.out.extend_from_slice(bytes);
        self.out.resize(self.out.len() + S::TAIL, 0);
        let sealed = self.stream.seal(&mut self.out[begin..]);
        if sealed.is_err() {
            // What could not be sealed must not go out as it is.
            self.out.truncate(begin);
        }
        sealed
    }

    /// Sends what was sealed.
    pub(crate) fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.stream.sendable() == Sendable::Nothing {
            (self.out, self.sent) = (Vec::new(), 0);
        }
        while self.sent < self.out.len() {
            let n = ready!(self.stream.poll_send(cx, &self.out[self.sent..]))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += n;
        }
        if self.out.capacity() > KEPT {
            self.out = Vec::new();
        }
        self.out.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    /// Sends what was sealed and flushes the link.
    pub(crate) fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        self.stream.poll_flush(cx)
    }

    pub(crate) fn has_sent_all(&self) -> bool {
        self.sent == self.out.len()
    }

    /// [`Framed::close`] as a future that owns everything, for a task of its own.
    pub async fn close_owned(self, close: Close) {
        self.close(&close).await;
    }

    /// Says why, ends our direction, and reads on to a deadline so that the CLOSE arrives. On a link that broke its alert says
    /// why, and no frame goes out beside it. Never fails: the connection is over either way.
    pub async fn close(mut self, close: &Close) {
        let _ = timeout(LINGER, async {
            match self.stream.sendable() {
                Sendable::Frames => self.write(FrameType::Close, &close.encode()).await?,
                Sendable::Ending | Sendable::Nothing => poll_fn(|cx| self.poll_drain(cx)).await?,
            }
            poll_fn(|cx| self.stream.poll_end(cx)).await?;
            while poll_fn(|cx| with_scratch(|scratch| self.stream.poll_discard(cx, scratch))).await? > 0 {}
            io::Result::Ok(())
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncWriteExt, duplex};

    #[tokio::test]
    async fn proto_n10_ignorable_frames_are_skipped_but_not_without_end() {
        let (a, mut b) = duplex(1 << 20);
        let mut framed = Framed::new(a);
        b.write_all(&[0x80, 0, 0, 2, 1, 1, 0x09, 0, 0, 0]).await.unwrap();
        assert_eq!(framed.read().await.unwrap().kind, FrameType::Fin);
        for _ in 0..20 {
            b.write_all(&[&[0x90, 0, 0x10, 0][..], &[0; 4096]].concat()).await.unwrap();
        }
        assert!(matches!(framed.read().await, Err(FramingError::Frame(FrameError::IgnorableTooLong { .. }))));
    }

    #[tokio::test]
    async fn an_end_between_and_inside_frames_is_told_from_close() {
        let (a, mut b) = duplex(1024);
        let mut framed = Framed::new(a);
        b.write_all(&[0x08, 0, 0, 5, 1]).await.unwrap();
        drop(b);
        assert!(matches!(framed.read().await, Err(FramingError::Ended)));

        let (a, b) = duplex(1024);
        let mut framed = Framed::new(a);
        let closer = tokio::spawn(async move { Framed::new(b).close(&Close::new(CloseCode::GoingAway, "bye")).await });
        assert!(matches!(framed.read().await, Err(FramingError::Closed(c)) if c.code == CloseCode::GoingAway));
        drop(framed);
        closer.await.unwrap();
    }

    #[tokio::test]
    async fn proto_d1_an_oversized_frame_is_refused_on_its_header() {
        let (a, mut b) = duplex(1024);
        b.write_all(&[0x01, 0xFF, 0xFF, 0xFF]).await.unwrap();
        let error = Framed::new(a).read().await.unwrap_err();
        assert!(matches!(error, FramingError::Frame(FrameError::TooLong { .. })));
        assert_eq!(error.close().unwrap().code, CloseCode::Protocol);
    }
}
