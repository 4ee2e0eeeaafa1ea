//! The connections to the upstream that one client uses: HTTP/1.1, kept alive, as many as it has requests at once.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use proxy_core::net::{ConnectError, connect};
use tokio::time::Instant;

use super::Inner;

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub(super) type Body = UnsyncBoxBody<Bytes, BoxError>;

/// Largest head of a response.
const MAX_HEAD_BYTES: usize = 128 * 1024;

#[derive(Debug, thiserror::Error)]
pub(super) enum UpstreamError {
    #[error(transparent)]
    Connect(ConnectError),
    #[error("as many connections to the upstream are open as there may be")]
    Full,
    #[error("the upstream did not answer as HTTP/1.1")]
    Http(#[source] hyper::Error),
}

/// Connections of one client. Dropping it closes those that serve no request.
#[derive(Default)]
pub(super) struct Connections {
    /// Some may be closed, or still busy with a body.
    kept: Mutex<Vec<SendRequest<Body>>>,
}

impl Connections {
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
        let mut fresh = open(inner).await?;
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
}

async fn open(inner: &Inner) -> Result<SendRequest<Body>, UpstreamError> {
    let place = inner.upstream_places.clone().try_acquire_owned().map_err(|_| UpstreamError::Full)?;
    let deadline = Instant::now() + inner.connect_timeout.get();
    let stream = connect(&inner.upstream, deadline).await.map_err(UpstreamError::Connect)?;
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(UpstreamError::Http)?;
    inner.tasks.spawn("upstream", async move {
        let _place = place;
        // Whoever waits for a response or reads a body gets the error there.
        let _ = connection.with_upgrades().await;
    });
    Ok(sender)
}
