//! HTTP/1.1 over attested tunnels: one tunnel per client connection and authority, kept between requests.
//!
//! The connections are driven by the task of the client connection that uses them ([`Upstreams::poll`]): nothing is
//! spawned, nothing outlives the client, and a request costs no wake-up of another task. Tunnels are never shared
//! between client connections; when a client has gone, its tunnels end with FIN in both directions ([`EndingTunnel`]), and the
//! attested connections beneath them can carry tunnels of other clients.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Method, Request, Response};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;

use super::VerdictHeaders;
use super::body::ToUpstream;
use super::ending::EndingTunnel;
use crate::open::{OpenError, Opener};

/// Tunnels that rest, per client connection. Each takes a place at the guest.
const MAX_IDLE: usize = 4;
/// A connection whose last exchange has ended is ready in the next poll; one that is not by then still carries a
/// request body that its server did not want.
const READY_WAIT: Duration = Duration::from_millis(50);
/// For ending tunnels cleanly after the client has gone.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// The tunnels of one client connection.
pub(super) struct Upstreams {
    opener: Arc<dyn Opener>,
    max_head_bytes: usize,
    idle: Mutex<Vec<Upstream>>,
    drivers: Mutex<Vec<Driver>>,
}

type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

struct Upstream {
    name: String,
    sender: SendRequest<ToUpstream>,
    verdict: VerdictHeaders,
}

/// A response, and what was proven about where it came from.
pub(super) struct Answered {
    pub(super) response: Response<Incoming>,
    pub(super) verdict: VerdictHeaders,
    upstream: Upstream,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum UpstreamError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("the upstream did not answer the request: {0}")]
    NoAnswer(hyper::Error),
}

impl Upstreams {
    pub(super) fn new(opener: Arc<dyn Opener>, max_head_bytes: usize) -> Upstreams {
        Upstreams { opener, max_head_bytes, idle: Mutex::default(), drivers: Mutex::default() }
    }

    /// Sends `request`, whose target is in origin-form, to the guest behind `name`.
    ///
    /// A kept tunnel may have ended unseen. What was not sent on it is sent on a new one; what was sent is repeated
    /// only where that is harmless (RFC 9110 §9.2.2): a method that is idempotent, without a body.
    pub(super) async fn send(&self, name: &str, request: Request<ToUpstream>) -> Result<Answered, UpstreamError> {
        let mut request = request;
        if let Some(kept) = self.take(name).await {
            let repeated = repeatable(&request);
            match kept.send(request).await {
                Ok(answered) => return Ok(answered),
                Err((error, unsent)) => match unsent.or(repeated) {
                    Some(again) => request = again,
                    None => return Err(UpstreamError::NoAnswer(error)),
                },
            }
        }
        self.open(name).await?.send(request).await.map_err(|(error, _)| UpstreamError::NoAnswer(error))
    }

    async fn open(&self, name: &str) -> Result<Upstream, UpstreamError> {
        let opened = self.opener.open(name).await?;
        let io = TokioIo::new(EndingTunnel::new(opened.tunnel));
        let (sender, connection) = Builder::new()
            .preserve_header_case(true)
            .max_buf_size(self.max_head_bytes)
            .handshake(io)
            .await
            .map_err(UpstreamError::NoAnswer)?;
        let driver = connection.with_upgrades();
        self.lock_drivers().push(Box::pin(async move {
            if let Err(error) = driver.await {
                tracing::debug!(%error, "an upstream connection ended");
            }
        }));
        Ok(Upstream { name: name.to_owned(), sender, verdict: VerdictHeaders::of(&opened.said) })
    }

    /// Drives every connection as far as it goes. Called by the task of the client connection whenever it wakes.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut drivers = self.lock_drivers();
        drivers.retain_mut(|driver| driver.as_mut().poll(cx).is_pending());
        if drivers.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Ends the tunnels cleanly where that is possible.
    pub(super) async fn close(&self) {
        self.lock_idle().clear();
        let _ = tokio::time::timeout(CLOSE_WAIT, std::future::poll_fn(|cx| self.poll(cx))).await;
    }

    /// Keeps the tunnel of an answer for the next request. The body of the response may still be on its way.
    pub(super) fn keep(&self, answered: Answered) -> (Response<Incoming>, VerdictHeaders) {
        let mut idle = self.lock_idle();
        if idle.len() >= MAX_IDLE {
            idle.remove(0);
        }
        idle.push(answered.upstream);
        (answered.response, answered.verdict)
    }

    async fn take(&self, name: &str) -> Option<Upstream> {
        let mut kept = {
            let mut idle = self.lock_idle();
            idle.retain(|upstream| !upstream.sender.is_closed());
            let position = idle.iter().position(|upstream| upstream.name == name)?;
            idle.remove(position)
        };
        match tokio::time::timeout(READY_WAIT, kept.sender.ready()).await {
            Ok(Ok(())) => Some(kept),
            Ok(Err(_)) | Err(_) => None,
        }
    }

    fn lock_idle(&self) -> MutexGuard<'_, Vec<Upstream>> {
        self.idle.lock().expect("nothing panics while it holds the idle tunnels")
    }
    fn lock_drivers(&self) -> MutexGuard<'_, Vec<Driver>> {
        self.drivers.lock().expect("a connection that panics ends the task that drives it")
    }
}

impl Upstream {
    async fn send(
        mut self,
        request: Request<ToUpstream>,
    ) -> Result<Answered, (hyper::Error, Option<Request<ToUpstream>>)> {
        match self.sender.try_send_request(request).await {
            Ok(response) => Ok(Answered { response, verdict: self.verdict.clone(), upstream: self }),
            Err(mut failed) => {
                let unsent = failed.take_message();
                Err((failed.into_error(), unsent))
            }
        }
    }
}

impl Answered {
    /// Lets the tunnel go after this answer.
    pub(super) fn last(self) -> (Response<Incoming>, VerdictHeaders) {
        (self.response, self.verdict)
    }
}

fn repeatable(request: &Request<ToUpstream>) -> Option<Request<ToUpstream>> {
    let idempotent = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE);
    if !idempotent || !request.body().is_end_stream() {
        return None;
    }
    let mut copy = Request::new(ToUpstream::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    *copy.extensions_mut() = request.extensions().clone();
    Some(copy)
}
