//! `--http-proxy`: CONNECT and absolute-form requests (RFC 9110, RFC 9112) into attested tunnels.
//!
//! CONNECT is answered 200 only when the guest's upstream is connected, and what follows is the application's own bytes.
//! Absolute-form requests are HTTP that passes through here: hop-by-hop headers end, `Evident-*` headers never pass,
//! everything else does, bodies and trailers as they come. We answer a request ourselves only to refuse it.
//!
//! Known limits of hyper, harmless here: interim responses other than 100 are not passed on, and header names keep their
//! case but not their order between different names.

mod body;
mod clock;
mod ending;
mod first_line;
mod headers;
mod target;
mod upstream;

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, EXPECT, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::{Either, Full};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use proxy_core::headers::strip_for_next_hop;
use proxy_core::net::{LocalStream, Peer};
use tokio::io::AsyncWriteExt;

pub use clock::Deadlines;

use self::body::{Answer, FromUpstream, Gate, ToClient, ToUpstream};
use self::clock::{Clock, Exchange, Expired, Timed, Watch};
use self::ending::EndingTunnel;
use self::target::{Asked, BadRequest, Forward};
use self::upstream::{Answered, UpstreamError, Upstreams};
use super::refusal::{self, LEVEL_HEADER, Refusal, VERDICT_HEADER};
use super::{carry, close_gently};
use crate::open::{Opener, Said, Tunnel};

pub const WAY: &str = "http";
/// For an answer of ours to go out after hyper has given up.
const ANSWER_WAIT: Duration = Duration::from_secs(1);
/// For a client above the limit of connections.
pub const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable (too many connections)\r\nRetry-After: 1\r\n\
    Content-Type: text/plain\r\nContent-Length: 45\r\nConnection: close\r\n\r\n\
    evident-client: too many connections are open";

/// What every connection to the proxy port shares.
pub struct HttpProxy {
    pub opener: Arc<dyn Opener>,
    pub deadlines: Deadlines,
    /// Request and response heads; 64 KiB is more than any server takes.
    pub max_head_bytes: usize,
    /// Whether absolute-form responses say what was verified.
    pub add_verdict_headers: bool,
}

/// Serves one accepted connection to its end. When `drain` completes, the request under way is the last.
pub async fn serve(proxy: Arc<HttpProxy>, local: LocalStream, peer: Peer, drain: impl Future<Output = ()>) {
    let clock = Clock::start(proxy.deadlines);
    let session = Session(Arc::new(Inner {
        upstreams: Upstreams::new(Arc::clone(&proxy.opener), proxy.max_head_bytes),
        proxy,
        peer,
        clock: Arc::clone(&clock),
        handover: Mutex::new(None),
    }));
    let inner = Arc::clone(&session.0);
    let mut connection = http1::Builder::new()
        .auto_date_header(false)
        .preserve_header_case(true)
        .max_buf_size(inner.proxy.max_head_bytes)
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(Timed::new(local, Arc::clone(&clock))), session);
    let mut watch = Watch::new(clock);
    let mut drain = pin!(drain);
    let mut draining = false;
    let end = poll_fn(|cx| {
        if !draining && drain.as_mut().poll(cx).is_ready() {
            draining = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        if let Poll::Ready(result) = connection.poll_without_shutdown(cx) {
            return Poll::Ready(End::Http(result));
        }
        // After the server side, which may just have opened a tunnel or given it a request.
        let _ = inner.upstreams.poll(cx);
        watch.poll(cx).map(End::Expired)
    })
    .await;
    let parts = connection.into_parts();
    let local = parts.io.into_inner().into_inner();
    inner.finish(end, local, parts.read_buf).await;
}

enum End {
    Http(hyper::Result<()>),
    Expired(Expired),
}

/// A tunnel that takes the connection over, and what came out of it already.
struct Handover {
    tunnel: Box<dyn Tunnel>,
    from_upstream: Bytes,
}

struct Inner {
    proxy: Arc<HttpProxy>,
    peer: Peer,
    upstreams: Upstreams,
    clock: Arc<Clock>,
    handover: Mutex<Option<Handover>>,
}

impl Inner {
    async fn finish(&self, end: End, local: LocalStream, unread: Bytes) {
        let handover = self.handover.lock().expect("nothing panics while it holds the handover").take();
        match (end, handover) {
            (End::Http(Ok(())), Some(handover)) => {
                if let Err(error) = carry(handover.tunnel, local, &unread, &handover.from_upstream).await {
                    tracing::debug!(way = WAY, peer = %self.peer, %error, "a tunnel ended before both sides had");
                }
            }
            (End::Http(Ok(())), None) => {
                tokio::join!(close_gently(local), self.upstreams.close());
            }
            // Hyper has answered 400 or 431.
            (End::Http(Err(error)), _) if error.is_parse() => {
                match self.clock.refused_target() {
                    None => {
                        tracing::debug!(way = WAY, peer = %self.peer, %error, "not a request");
                        close_gently(local).await;
                    }
                    Some(refused) => {
                        tracing::warn!(way = WAY, peer = %self.peer, error = %refused, "request refused");
                        let mut local = local;
                        // The clock has kept hyper's answer, which says nothing.
                        let _ = tokio::time::timeout(ANSWER_WAIT, local.write_all(&refused.answer())).await;
                        close_gently(local).await;
                    }
                }
                self.upstreams.close().await;
            }
            // A response that broke off must not look whole, not even one that only the end of the connection ends.
            (End::Http(Err(error)), _) => {
                tracing::debug!(way = WAY, peer = %self.peer, %error, "connection broken off");
                local.abort();
            }
            (End::Expired(expired), _) => {
                tracing::debug!(way = WAY, peer = %self.peer, %expired, "connection ended");
                match expired {
                    Expired::KeepAlive => {
                        tokio::join!(close_gently(local), self.upstreams.close());
                    }
                    Expired::RequestHead => {
                        local.abort();
                        self.upstreams.close().await;
                    }
                    Expired::Idle | Expired::Lifetime => local.abort(),
                }
            }
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<ToClient> {
        let exchange = self.clock.exchange();
        let asked_with = request.headers().clone();
        let is_connect = *request.method() == Method::CONNECT;
        let answer = match target::classify(request.method(), request.uri(), request.headers(), exchange.has_empty_path)
        {
            Ok(Asked::Tunnel { name }) => self.tunnel(&name, &request).await,
            Ok(Asked::Forward(forward)) => self.forward(forward, request, exchange).await,
            Err(bad) => Err(bad.into()),
        };
        answer.unwrap_or_else(|refusal| {
            let mut response = refusal.response(&asked_with);
            if is_connect {
                // What the client sent ahead was for the tunnel; it must not be read as requests.
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            response.map(Either::Left)
        })
    }

    async fn tunnel(&self, name: &str, request: &Request<Incoming>) -> Result<Response<ToClient>, Refusal> {
        if !request.body().is_end_stream() {
            return Err(BadRequest::ConnectBody.into());
        }
        let opened = self.proxy.opener.open(name).await.map_err(|error| {
            refusal::log(WAY, &self.peer, name, &error);
            Refusal::from(&error)
        })?;
        self.hand_over(opened.tunnel, Bytes::new());
        Ok(Response::new(Either::Left(Full::default())))
    }

    async fn forward(
        &self,
        forward: Forward,
        request: Request<Incoming>,
        exchange: Exchange,
    ) -> Result<Response<ToClient>, Refusal> {
        let name = forward.name.clone();
        let (request, gate) = outgoing(forward, request);
        let upgrade_asked = headers::passing_upgrade(request.headers()).is_some();
        let answered = self.upstreams.send(&name, request).await.map_err(|error| match error {
            UpstreamError::Open(error) => {
                refusal::log(WAY, &self.peer, &name, &error);
                Refusal::from(&error)
            }
            UpstreamError::NoAnswer(_) => Refusal::of_upstream(error.to_string()),
        })?;
        if answered.response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return self.switch(answered, upgrade_asked).await;
        }
        headers::only_chunked(answered.response.headers()).map_err(|seen| {
            Refusal::of_upstream(format!("the upstream's transfer coding {seen:?} is not supported"))
        })?;
        let unwanted = gate.is_some_and(|gate| gate.answer(Answer::Final) == Answer::Final);
        let (response, verdict) = if unwanted { answered.last() } else { self.upstreams.keep(answered) };
        let (mut parts, body) = response.into_parts();
        self.incoming(&mut parts.headers, verdict);
        parts.version = Version::HTTP_11;
        if unwanted {
            parts.headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(Response::from_parts(parts, Either::Right(FromUpstream::new(body, exchange))))
    }

    /// 101: what follows is no longer HTTP/1.1.
    async fn switch(&self, answered: Answered, asked: bool) -> Result<Response<ToClient>, Refusal> {
        let (mut response, verdict) = answered.last();
        let protocol = headers::passing_upgrade(response.headers()).filter(|_| asked);
        let protocol = protocol.ok_or_else(|| {
            Refusal::of_upstream("the upstream changes to a protocol that was not asked for".to_owned())
        })?;
        let upgraded = hyper::upgrade::on(&mut response)
            .await
            .map_err(|error| Refusal::of_upstream(format!("the upstream did not complete the upgrade: {error}")))?;
        let upgraded = upgraded
            .downcast::<TokioIo<EndingTunnel>>()
            .expect("every upstream connection runs over a tunnel in a TokioIo");
        self.hand_over(upgraded.io.into_inner().into_inner(), upgraded.read_buf);
        let (mut parts, _) = response.into_parts();
        self.incoming(&mut parts.headers, verdict);
        headers::set_upgrade(&mut parts.headers, protocol);
        parts.version = Version::HTTP_11;
        Ok(Response::from_parts(parts, Either::Left(Full::default())))
    }

    fn hand_over(&self, tunnel: Box<dyn Tunnel>, from_upstream: Bytes) {
        let handover = Handover { tunnel, from_upstream };
        *self.handover.lock().expect("nothing panics while it holds the handover") = Some(handover);
    }

    fn incoming(&self, headers: &mut HeaderMap, verdict: VerdictHeaders) {
        strip_for_next_hop(headers);
        if self.proxy.add_verdict_headers {
            headers.insert(VERDICT_HEADER, verdict.verdict);
            headers.insert(LEVEL_HEADER, verdict.level);
        }
    }
}

/// What absolute-form responses say about the connection that they came over.
#[derive(Clone, Debug)]
struct VerdictHeaders {
    verdict: HeaderValue,
    level: HeaderValue,
}

impl VerdictHeaders {
    fn of(said: &Said) -> VerdictHeaders {
        let ascii = |text: &str| HeaderValue::try_from(text).expect("words and numbers of ours are printable ASCII");
        VerdictHeaders { verdict: ascii(&said.verdict), level: ascii(&said.levels) }
    }
}

impl From<BadRequest> for Refusal {
    fn from(bad: BadRequest) -> Refusal {
        Refusal::of_request(bad.status(), bad.to_string())
    }
}

/// The request as the upstream gets it, and the gate that its body waits at if the client asked before sending it.
fn outgoing(forward: Forward, request: Request<Incoming>) -> (Request<ToUpstream>, Option<Arc<Gate>>) {
    let (mut parts, body) = request.into_parts();
    let expects = parts.headers.get(EXPECT).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let upgrade = headers::passing_upgrade(&parts.headers);
    strip_for_next_hop(&mut parts.headers);
    parts.headers.insert(HOST, forward.host);
    if let Some(protocol) = upgrade {
        headers::set_upgrade(&mut parts.headers, protocol);
    }
    parts.uri = forward.origin;
    parts.version = Version::HTTP_11;
    parts.extensions.remove::<OnUpgrade>();
    if !expects || body.is_end_stream() {
        return (Request::from_parts(parts, ToUpstream::at_once(body)), None);
    }
    let gate = Arc::new(Gate::default());
    let mut request = Request::from_parts(parts, ToUpstream::after(Arc::clone(&gate), body));
    let opens = Arc::clone(&gate);
    hyper::ext::on_informational(&mut request, move |interim| {
        if interim.status() == StatusCode::CONTINUE {
            opens.answer(Answer::Continue);
        }
    });
    (request, Some(gate))
}

/// One client connection as hyper sees it.
struct Session(Arc<Inner>);

impl Service<Request<Incoming>> for Session {
    type Response = Response<ToClient>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<ToClient>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let inner = Arc::clone(&self.0);
        Box::pin(async move { Ok(inner.answer(request).await) })
    }
}
