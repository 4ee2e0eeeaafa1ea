//! The connections to the upstream that one client uses: HTTP/1.1, kept alive, as many as it has requests at once.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use proxy_core::net::{ConnectError, LocalStream, connect};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::Inner;
use super::places::Allowance;

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub(super) type Body = UnsyncBoxBody<Bytes, BoxError>;

/// Largest head of a response.
const MAX_HEAD_BYTES: usize = 128 * 1024;
/// Most that is read at once. hyper doubles its buffer whenever a read fills it, up to the largest head; a read that is
/// one byte short of 16 KiB never does.
const MAX_READ_BYTES: usize = 16 * 1024 - 1;

#[derive(Debug, thiserror::Error)]
pub(super) enum UpstreamError {
    #[error(transparent)]
    Connect(ConnectError),
    #[error("as many connections to the upstream are open as this client may have")]
    Full,
    #[error("the upstream did not answer as HTTP/1.1")]
    Http(#[source] hyper::Error),
}

/// Connections of one client. Dropping it closes those that serve no request.
pub(super) struct Connections {
    allowance: Allowance,
    /// Some may be closed, or still busy with a body.
    kept: Mutex<Vec<SendRequest<Body>>>,
}

impl Connections {
    pub(super) fn new(allowance: Allowance) -> Self {
        Connections { allowance, kept: Mutex::default() }
    }

    /// Sends a request and returns with the head of its answer. A kept connection that turns out to be closed before the
    /// request went out is replaced; a request that may have been seen is never sent twice.
    pub(super) async fn send(
        &self,
        inner: &Inner,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, UpstreamError> {
        while let Some(mut kept) = self.take_ready() {
            match kept.try_send_request(request).await {
                Ok(response) => return Ok(self.keep(kept, response)),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(UpstreamError::Http(error.into_error())),
                },
            }
        }
        let mut fresh = self.open(inner).await?;
        let response = fresh.send_request(request).await.map_err(UpstreamError::Http)?;
        Ok(self.keep(fresh, response))
    }

    fn keep(&self, connection: SendRequest<Body>, response: Response<Incoming>) -> Response<Incoming> {
        if response.status() != http::StatusCode::SWITCHING_PROTOCOLS {
            self.lock().push(connection);
        }
        response
    }

    fn take_ready(&self) -> Option<SendRequest<Body>> {
        let mut kept = self.lock();
        kept.retain(|connection| !connection.is_closed());
        let index = kept.iter().position(SendRequest::is_ready)?;
        Some(kept.swap_remove(index))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<SendRequest<Body>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn open(&self, inner: &Inner) -> Result<SendRequest<Body>, UpstreamError> {
        let place = self.allowance.take().ok_or(UpstreamError::Full)?;
        let deadline = Instant::now() + inner.connect_timeout.get();
        let stream = connect(&inner.upstream, deadline).await.map_err(UpstreamError::Connect)?;
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD_BYTES)
            .handshake(TokioIo::new(InSips(stream)))
            .await
            .map_err(UpstreamError::Http)?;
        inner.tasks.spawn("upstream", async move {
            let _place = place;
            // Whoever waits for a response or reads a body gets the error there.
            let _ = connection.with_upgrades().await;
        });
        Ok(sender)
    }
}

/// A stream that is read in small pieces.
pub(super) struct InSips(pub(super) LocalStream);

impl AsyncRead for InSips {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let room = buffer.remaining().min(MAX_READ_BYTES);
        let mut piece = ReadBuf::new(buffer.initialize_unfilled_to(room));
        ready!(Pin::new(&mut self.0).poll_read(cx, &mut piece))?;
        let read = piece.filled().len();
        buffer.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for InSips {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
