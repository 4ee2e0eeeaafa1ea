//! What carries frames: something that seals records in place, sends them, and opens those that come in place.
//!
//! ```text
//!  local socket ─read─▶ [ HEAD | frame header | bytes | TAIL ] ─seal─▶ one write
//!  one read ─open─▶ [ HEAD | plaintext | TAIL ][ HEAD | plaintext | TAIL ] … ─pieces─▶ one write to the local socket
//! ```
//!
//! The buffers belong to the thread, not to the connection: a connection on which nothing is under way holds none.
//! `crate::tls::Records` seals and opens for itself. Every other stream is a link too: its bytes are copied, and it does
//! with them what it does (tests, rustls' own streams).

use std::cell::Cell;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most plaintext of one record (RFC 8446 §5.1).
pub const MAX_PLAIN: usize = 16_384;
/// Records that are read, sealed and written at once: 64 KiB of plaintext.
pub const RECORDS: usize = 4;
/// The largest record on the wire: header, plaintext, 256 bytes for padding, type and tag (RFC 8446 §5.2).
pub const MAX_RECORD: usize = 5 + MAX_PLAIN + 256;
/// A read takes that much: what a full write of the other side makes, and the rest of a record before it.
const SCRATCH: usize = (RECORDS + 1) * MAX_RECORD;

/// Room for one step of one connection.
pub struct Scratch {
    pub(crate) bytes: Vec<u8>,
    /// Where the plaintext of opened records lies in `bytes`.
    pub(crate) pieces: Vec<Range<usize>>,
}

thread_local! {
    static OF_THREAD: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

/// Lends the thread's scratch. A use inside a use gets one of its own, for that time.
pub(crate) fn with_scratch<R>(step: impl FnOnce(&mut Scratch) -> R) -> R {
    let mut scratch = OF_THREAD
        .take()
        .unwrap_or_else(|| Box::new(Scratch { bytes: vec![0; SCRATCH], pieces: Vec::with_capacity(2 * RECORDS) }));
    let result = step(&mut scratch);
    scratch.pieces.clear();
    OF_THREAD.set(Some(scratch));
    result
}

/// What may still be sent on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sendable {
    /// Everything.
    Frames,
    /// What was sealed before, and the word that ends our direction and says why.
    Ending,
    /// Nothing: the other side has closed the connection.
    Nothing,
}

/// A connection for frames. Records go out in the order in which they were sealed.
pub trait FrameLink: Unpin {
    /// What a sealed record has before and after its plaintext.
    const HEAD: usize;
    const TAIL: usize;

    /// Makes a record of `HEAD ‖ at most MAX_PLAIN bytes ‖ TAIL`, in place.
    fn seal(&mut self, record: &mut [u8]) -> io::Result<()>;

    /// Appends a record that the link itself must send before the next one is sealed.
    fn owed(&mut self, out: &mut Vec<u8>) -> io::Result<()>;

    /// Writes sealed bytes, as many as go.
    fn poll_send(&mut self, cx: &mut Context<'_>, sealed: &[u8]) -> Poll<io::Result<usize>>;

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// What the link still takes. A link that broke seals no more frames.
    fn sendable(&self) -> Sendable {
        Sendable::Frames
    }

    /// Says that nothing more comes, after everything that was sent; on a link that broke, why.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Reads once and looks at nothing, so that bytes under way do not make TCP reset what was sent. Ready with their number,
    /// which is 0 only at the end.
    fn poll_discard(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Poll<io::Result<usize>>;

    /// Reads once, opens in place what is whole, and notes its pieces. Ready with their length, which is 0 only at the end.
    fn poll_open(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Poll<io::Result<usize>>;
}

impl<S: AsyncRead + AsyncWrite + Unpin> FrameLink for S {
    const HEAD: usize = 0;
    const TAIL: usize = 0;

    fn seal(&mut self, _: &mut [u8]) -> io::Result<()> {
        Ok(())
    }

    fn owed(&mut self, _: &mut Vec<u8>) -> io::Result<()> {
        Ok(())
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, sealed: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self).poll_write(cx, sealed)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self).poll_flush(cx)
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self).poll_shutdown(cx)
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Poll<io::Result<usize>> {
        self.poll_open(cx, scratch)
    }

    fn poll_open(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(&mut scratch.bytes);
        ready!(Pin::new(self).poll_read(cx, &mut buffer))?;
        let n = buffer.filled().len();
        if n > 0 {
            scratch.pieces.push(0..n);
        }
        Poll::Ready(Ok(n))
    }
}
