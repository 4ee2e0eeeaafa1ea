//! The HTTP reverse proxy: one client's connection, HTTP/1.1 or HTTP/2, to an upstream that speaks HTTP/1.1.
//!
//! Request targets become origin form, `Host` stays the one that the client asked for, what ends at a hop is removed, and
//! so are our own headers, in both directions and in trailers ([`proxy_core::headers`]). Bodies stream. An `Upgrade` of
//! HTTP/1.1 is passed on, and what follows it is bytes; except to HTTP itself (`h2c`), which would carry requests past
//! the stripping.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, COOKIE, HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use http::uri::Authority;
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use proxy_core::headers::{strip_for_next_hop, upgrade, with_stripped_trailers};
use proxy_core::net::{Addr, ConnectError, Peer};
use proxy_core::tasks::Tasks;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until};

use super::body::{Answer, Holding, Upload};
use super::heads::Heads;
use super::places::Allowance;
use super::upstream::{Body, BoxError, Connections, InSips, UpstreamError};
use super::watch::Activity;
use super::{Inner, raw};

/// Largest head of a request, and of its trailers.
const MAX_HEAD_BYTES: u32 = 64 * 1024;
/// Requests that one HTTP/2 client has at once; each may hold a connection to the upstream.
const MAX_STREAMS: u32 = 32;
/// What one HTTP/2 client may have on its way to the upstream: of one request, and of all.
const UPLOAD_WINDOW: u32 = 64 * 1024;
const UPLOADS_WINDOW: u32 = 128 * 1024;
/// What an answer over HTTP/2 may have on its way to a client that does not read it.
const SEND_BUFFER_BYTES: usize = 16 * 1024;
/// What an answer gets beyond the idle limit, so that a silent upstream is reported as such before the connection ends.
const IDLE_GRACE: Duration = Duration::from_secs(5);
/// What requests under way get beyond the connection's lifetime.
const LIFETIME_GRACE: Duration = Duration::from_secs(30);

pub(super) async fn serve<S>(
    inner: &Arc<Inner>,
    client: S,
    h2: bool,
    peer: Peer,
    activity: &Activity,
    ends: Instant,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let session = Arc::new(Session {
        inner: Arc::clone(inner),
        peer,
        activity: activity.clone(),
        connections: Connections::new(inner.upstream_places.of_connection(peer.source())),
        requests: inner.request_places.of_connection(peer.source()),
        heads: Heads::new(),
        told_full: AtomicBool::new(false),
        upgraded: Mutex::new(None),
    });
    let service = service_fn(|request| {
        let session = Arc::clone(&session);
        async move { Ok::<_, Infallible>(session.answer(request).await) }
    });
    let client = TokioIo::new(client);
    if h2 {
        let connection = http2(inner).serve_connection(client, service);
        let heads = Some(&session.heads);
        return drive(inner, connection, |connection| connection.graceful_shutdown(), activity, heads, ends).await;
    }
    let connection = http1(inner).serve_connection(client, service).with_upgrades();
    drive(inner, connection, |connection| connection.graceful_shutdown(), activity, None, ends).await?;
    let upgraded = session.upgraded.lock().unwrap_or_else(PoisonError::into_inner).take();
    match upgraded {
        Some(upgraded) => upgraded.relay(inner, activity, ends).await,
        None => Ok(()),
    }
}

/// Runs a connection to its end: its own, or that of a limit; asks it to finish when the proxy drains, or it is old, or
/// asks for nothing. `heads` where the library has no deadline for them.
async fn drive<C>(
    inner: &Inner,
    connection: C,
    finish: impl Fn(Pin<&mut C>),
    activity: &Activity,
    heads: Option<&Heads>,
    ends: Instant,
) -> io::Result<()>
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut connection = pin!(connection);
    let no_head_in = async |period| match heads {
        Some(heads) => heads.none_for(period).await,
        None => std::future::pending().await,
    };
    let first_byte = inner.first_byte_timeout.get();
    let mut stop = pin!(async {
        tokio::select! {
            () = inner.tasks.draining() => {}
            () = sleep_until(ends) => {}
            () = no_head_in(first_byte) => {}
        }
    });
    let mut limit = pin!(async {
        tokio::select! {
            () = activity.nothing_received_in(inner.first_byte_timeout) => "no request came",
            () = no_head_in(first_byte + IDLE_GRACE) => "no whole request head came in time",
            () = activity.silent_for(inner.idle_timeout, IDLE_GRACE) => "no byte passed for the idle limit",
            () = sleep_until(ends + LIFETIME_GRACE) => "the connection reached its lifetime",
        }
    });
    let mut stopping = false;
    loop {
        tokio::select! {
            result = connection.as_mut() => return result.or_else(of_client),
            () = stop.as_mut(), if !stopping => {
                stopping = true;
                finish(connection.as_mut());
            }
            what = limit.as_mut() => return Err(raw::timed_out(what)),
        }
    }
}

// hyper-util's server for both protocols would look at the first bytes, without a deadline, instead of at ALPN.

fn http1(inner: &Inner) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(inner.first_byte_timeout.get())
        .max_buf_size(usize::try_from(MAX_HEAD_BYTES).expect("32 bits fit"));
    builder
}

fn http2(inner: &Inner) -> http2::Builder<Tasks> {
    let mut builder = http2::Builder::new(inner.tasks.clone());
    builder
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_HEAD_BYTES)
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(UPLOAD_WINDOW)
        .initial_connection_window_size(UPLOADS_WINDOW)
        .max_send_buf_size(SEND_BUFFER_BYTES);
    builder
}

/// A client that goes away, stays silent, or breaks off is no error of ours.
fn of_client(error: hyper::Error) -> io::Result<()> {
    if error.is_timeout() || error.is_incomplete_message() || error.is_closed() {
        tracing::debug!(error = %error, "the client ended its connection early");
        return Ok(());
    }
    Err(io::Error::other(error))
}

/// One client's connection.
struct Session {
    inner: Arc<Inner>,
    peer: Peer,
    activity: Activity,
    connections: Connections,
    requests: Allowance,
    heads: Heads,
    /// Whether the log says that this client asked for more than it may have.
    told_full: AtomicBool,
    /// Both ends of an accepted upgrade, to be relayed once the HTTP side has let go of the client's stream.
    upgraded: Mutex<Option<Upgraded>>,
}

struct Upgraded {
    client: OnUpgrade,
    upstream: OnUpgrade,
}

impl Session {
    async fn answer(&self, mut request: Request<Incoming>) -> Response<Body> {
        let open = self.heads.begin();
        if request.method() == Method::CONNECT {
            return refusal(StatusCode::METHOD_NOT_ALLOWED, "CONNECT is not served here");
        }
        let Some(place) = self.requests.take() else { return self.failed(UpstreamError::Full) };
        let holding = Holding { _open: open, _place: place };
        let wanted = wanted_upgrade(&request);
        let client = wanted.is_some().then(|| hyper::upgrade::on(&mut request));
        let request = match self.for_upstream(request, wanted.as_ref()) {
            Ok(request) => request,
            Err(why) => return refusal(StatusCode::BAD_REQUEST, why),
        };
        let sent = tokio::select! {
            sent = self.connections.send(&self.inner, request) => sent,
            () = self.activity.silent_for(self.inner.idle_timeout, Duration::ZERO) => {
                tracing::warn!(peer = %self.peer, "the upstream did not answer within the idle limit");
                return refusal(StatusCode::GATEWAY_TIMEOUT, "the upstream did not answer in time");
            }
        };
        match sent {
            Ok(response) => self.for_client(response, client, holding),
            Err(error) => self.failed(error),
        }
    }

    /// The request as the upstream shall see it.
    fn for_upstream(
        &self,
        request: Request<Incoming>,
        wanted: Option<&HeaderValue>,
    ) -> Result<Request<Body>, &'static str> {
        let (mut parts, body) = request.into_parts();
        let asked = host(&parts.uri, &parts.headers, parts.version)?;
        if !is_only_chunked(&parts.headers) {
            return Err("a transfer coding other than chunked is not served here");
        }
        strip_for_next_hop(&mut parts.headers);
        // HTTP/1.1 needs one, and servers refuse an empty one.
        parts.headers.insert(HOST, asked.clone().unwrap_or_else(|| own_host(&self.inner.upstream)));
        join_cookies(&mut parts.headers);
        if let Some(protocol) = wanted {
            set_upgrade(&mut parts.headers, protocol.clone());
        }
        self.inner.forwarded.apply(&mut parts.headers, asked.as_ref(), self.peer);
        parts.uri = origin_form(&parts.uri);
        let body = match parts.version {
            Version::HTTP_2 => with_stripped_trailers(Upload::new(body)).boxed_unsync(),
            _ => with_stripped_trailers(body).map_err(BoxError::from).boxed_unsync(),
        };
        parts.version = Version::HTTP_11;
        Ok(Request::from_parts(parts, body))
    }

    /// The response as the client shall see it.
    fn for_client(
        &self,
        mut response: Response<Incoming>,
        client: Option<OnUpgrade>,
        holding: Holding,
    ) -> Response<Body> {
        if !is_only_chunked(response.headers()) {
            tracing::warn!(peer = %self.peer, "the upstream answered in a transfer coding other than chunked");
            return refusal(StatusCode::BAD_GATEWAY, "the upstream answered in a transfer coding other than chunked");
        }
        let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let protocol = upgrade(response.headers());
        let upstream = switched.then(|| hyper::upgrade::on(&mut response));
        let (mut parts, body) = response.into_parts();
        strip_for_next_hop(&mut parts.headers);
        match (upstream, client, protocol) {
            (None, _, _) => {}
            (Some(upstream), Some(client), Some(protocol)) => {
                set_upgrade(&mut parts.headers, protocol);
                let mut upgraded = self.upgraded.lock().unwrap_or_else(PoisonError::into_inner);
                *upgraded = Some(Upgraded { client, upstream });
            }
            (Some(_), _, _) => {
                tracing::warn!(peer = %self.peer, "the upstream changed to a protocol that nobody asked for");
                return refusal(StatusCode::BAD_GATEWAY, "the upstream gave an answer that does not fit the request");
            }
        }
        // Set for the client's own connection.
        parts.version = Version::HTTP_11;
        let body = Answer::new(with_stripped_trailers(body), holding);
        Response::from_parts(parts, body.map_err(BoxError::from).boxed_unsync())
    }

    fn failed(&self, error: UpstreamError) -> Response<Body> {
        let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        // A client that asks for too much would otherwise fill the log: its first refusal says it.
        if !matches!(error, UpstreamError::Full) || !self.told_full.swap(true, Ordering::Relaxed) {
            tracing::warn!(peer = %self.peer, %error, source, "no answer from the upstream");
        }
        match error {
            UpstreamError::Full => refusal(StatusCode::SERVICE_UNAVAILABLE, "too many requests at once"),
            UpstreamError::Connect(ConnectError::TimedOut { .. }) => {
                refusal(StatusCode::GATEWAY_TIMEOUT, "the upstream did not answer in time")
            }
            UpstreamError::Connect(_) => refusal(StatusCode::BAD_GATEWAY, "the upstream cannot be reached"),
            UpstreamError::Http(_) => refusal(StatusCode::BAD_GATEWAY, "the upstream gave no valid answer"),
        }
    }
}

impl Upgraded {
    async fn relay(self, inner: &Inner, activity: &Activity, ends: Instant) -> io::Result<()> {
        let (client, upstream) = tokio::try_join!(self.client, self.upstream).map_err(io::Error::other)?;
        let upstream = upstream
            .downcast::<TokioIo<InSips>>()
            .map_err(|_| io::Error::other("the upstream's stream is of another kind"))?;
        let first = upstream.read_buf;
        raw::relay(inner, TokioIo::new(client), upstream.io.into_inner().0, &first, activity, ends).await
    }
}

/// The protocol that an HTTP/1.1 request asks for, unless it is HTTP again.
fn wanted_upgrade(request: &Request<Incoming>) -> Option<HeaderValue> {
    let protocol = upgrade(request.headers()).filter(|_| request.version() == Version::HTTP_11)?;
    let is_http = |name: &str| {
        let name = name.trim().to_ascii_lowercase();
        name == "h2c" || name == "h2" || name.starts_with("http/") || name.starts_with("tls/")
    };
    let text = protocol.to_str().ok()?;
    if text.split(',').any(is_http) { None } else { Some(protocol) }
}

fn set_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
}

/// The host that was asked for: of the target where it names one (RFC 9112 §3.2.2, RFC 9113 §8.3.1), else of the one
/// `Host` header; none only in HTTP/1.0.
fn host(uri: &Uri, headers: &HeaderMap, version: Version) -> Result<Option<HeaderValue>, &'static str> {
    if let Some(authority) = uri.authority() {
        return match HeaderValue::from_str(authority.as_str()) {
            Ok(value) if !authority.as_str().contains('@') => Ok(Some(value)),
            _ => Err("the request target has no valid host"),
        };
    }
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if Authority::try_from(host.as_bytes()).is_ok() || host.is_empty() => Ok(Some(host.clone())),
        (None, None) if version == Version::HTTP_10 => Ok(None),
        _ => Err("a request needs one valid Host header"),
    }
}

/// The host for a client of HTTP/1.0 that named none: the upstream's own.
fn own_host(upstream: &Addr) -> HeaderValue {
    let host = if upstream.unix_path().is_some() { None } else { HeaderValue::from_str(&upstream.to_string()).ok() };
    host.unwrap_or_else(|| HeaderValue::from_static("localhost"))
}

/// Whether a body has no transfer coding but the one that ends here. With any other, the next hop would get coded bytes
/// and no word of it.
fn is_only_chunked(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(one), None) => one.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    }
}

fn origin_form(uri: &Uri) -> Uri {
    match uri.path_and_query() {
        Some(path) => Uri::from(path.clone()),
        None => Uri::from_static("/"),
    }
}

/// HTTP/2 may split Cookie into several fields; HTTP/1.1 has one (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_some() {
        let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
        let joined = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])).expect("made of header values");
        headers.insert(COOKIE, joined);
    }
}

/// An answer of our own. It names no address: whoever reads it may not be the operator.
fn refusal(status: StatusCode, why: &'static str) -> Response<Body> {
    let body = Full::new(Bytes::from(format!("evident-proxy: {why}\n")));
    let mut response = Response::new(body.map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
