//! A tunnel whose shutdown lasts until the upstream has ended too.
//!
//! hyper drops a connection as soon as its own direction has ended. A tunnel dropped then is aborted, and the attested
//! connection beneath it, with its handshake and its report, is lost. So shutdown here reads on to the upstream's own end.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::open::Tunnel;

/// Of what an upstream still sends after its client has gone; more than that costs more than another handshake.
const MAX_LEFT_BYTES: usize = 64 * 1024;

/// A tunnel that HTTP runs over.
pub(super) struct EndingTunnel {
    tunnel: Box<dyn Tunnel>,
    /// Bytes that were thrown away since shutdown began.
    left_bytes: usize,
}

impl EndingTunnel {
    pub(super) fn new(tunnel: Box<dyn Tunnel>) -> EndingTunnel {
        EndingTunnel { tunnel, left_bytes: 0 }
    }

    /// The tunnel, for a protocol that follows HTTP on it.
    pub(super) fn into_inner(self) -> Box<dyn Tunnel> {
        self.tunnel
    }
}

impl AsyncRead for EndingTunnel {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tunnel).poll_read(cx, buffer)
    }
}

impl AsyncWrite for EndingTunnel {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tunnel).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tunnel).poll_flush(cx)
    }

    /// FIN, and then everything up to the upstream's FIN. The caller sets the time limit.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.tunnel).poll_shutdown(cx))?;
        let mut scratch = [0; 4096];
        while self.left_bytes <= MAX_LEFT_BYTES {
            let mut buffer = ReadBuf::new(&mut scratch);
            ready!(Pin::new(&mut self.tunnel).poll_read(cx, &mut buffer))?;
            match buffer.filled().len() {
                0 => break,
                n => self.left_bytes += n,
            }
        }
        Poll::Ready(Ok(()))
    }
}
