//! Frames over a TLS stream: whole control frames in, whole frames out, and how a connection is closed so that the other
//! side learns why.
//!
//! Bodies are bounded by `ratls::wire` before a byte of them is kept. Deadlines are the caller's.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ratls::wire::cbor::CborError;
use ratls::wire::control::{Close, CloseCode};
use ratls::wire::frame::{FrameError, FrameType, Header};
use ratls::wire::limits::{FRAME_HEADER, MAX_IGNORED};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// How long a closer reads on, so that a reset cannot eat its CLOSE (decision 3).
const LINGER: Duration = Duration::from_secs(2);
/// Room asked of the stream per read.
const READ_CHUNK: usize = 64 * 1024;

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
    #[error("the other side closed: {:?}, {:?}", .0.code, .0.text)]
    Closed(Close),
}

impl FramingError {
    /// The CLOSE that tells the other side; `None` where it is of no use.
    pub fn close(&self) -> Option<Close> {
        match self {
            FramingError::Frame(_) | FramingError::Body { .. } | FramingError::Unexpected { .. } => {
                Some(Close::new(CloseCode::Protocol, self.to_string()))
            }
            FramingError::Io(_) | FramingError::Ended | FramingError::Closed(_) => None,
        }
    }
}

/// A stream with frames on it.
pub struct Framed<S> {
    pub(crate) stream: S,
    pub(crate) received: BytesMut,
    /// Frame bytes that are on their way to the stream: at most one frame.
    pub(crate) out: BytesMut,
    pub(crate) ignored: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Framed<S> {
    pub fn new(stream: S) -> Self {
        Framed { stream, received: BytesMut::new(), out: BytesMut::new(), ignored: 0 }
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
                    let close = Close::parse(&frame.body)
                        .map_err(|source| FramingError::Body { kind: FrameType::Close, source })?;
                    return Err(FramingError::Closed(close));
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
        Ok(())
    }

    /// The header of the next frame, if its four bytes are here.
    pub(crate) fn peek_header(&self) -> Result<Option<Header>, FramingError> {
        match self.received.first_chunk::<FRAME_HEADER>() {
            Some(bytes) => Ok(Some(Header::parse(*bytes)?)),
            None => Ok(None),
        }
    }

    async fn fill(&mut self) -> Result<(), FramingError> {
        self.received.reserve(READ_CHUNK);
        match self.stream.read_buf(&mut self.received).await {
            Ok(0) => Err(FramingError::Ended),
            Ok(_) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err(FramingError::Ended),
            Err(e) => Err(e.into()),
        }
    }

    /// Writes one frame and flushes.
    ///
    /// Cancel-safe in this sense: the frame of a dropped future goes out whole, before the next one, or not at all.
    pub async fn write(&mut self, kind: FrameType, body: &[u8]) -> io::Result<()> {
        self.stream.write_all_buf(&mut self.out).await?;
        self.out.reserve(FRAME_HEADER + body.len());
        self.out.extend_from_slice(&Header::encode(kind, body.len()));
        self.out.extend_from_slice(body);
        self.stream.write_all_buf(&mut self.out).await?;
        self.stream.flush().await
    }

    /// [`Framed::close`] as a future that owns everything, for a task of its own.
    pub async fn close_owned(self, close: Close) {
        self.close(&close).await;
    }

    /// Says why, ends our direction, and reads on to a deadline so that the CLOSE arrives. Never fails: the connection is
    /// over either way.
    pub async fn close(mut self, close: &Close) {
        let _ = timeout(LINGER, async {
            self.write(FrameType::Close, &close.encode()).await?;
            self.stream.shutdown().await?;
            let mut sink = vec![0; 16 * 1024];
            while self.stream.read(&mut sink).await? > 0 {}
            io::Result::Ok(())
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::duplex;

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
