//! The operator's page: `/livez`, `/readyz`, `/metrics`, `/verdict`, and at `/` the same for people where a proxy has it.
//!
//! It listens on loopback or a unix socket; elsewhere only behind a setting whose value says what it does.
//! It changes nothing (GET only) and shows no secret, but it is not for everybody: pages of other sites that a browser on
//! this machine opens must not read it, so `Host` has to be an address or `localhost` (a name could be rebound to us),
//! there is no CORS, and nothing it serves can be run or framed.
//!
//! Each connection serves one request within a deadline; more than a few at once are closed.

use std::convert::Infallible;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};

use crate::limits::Connections;
use crate::net::{Addr, Listener, LocalStream, Peer};
use crate::tasks::Tasks;

/// From accept to the end of the answer.
const CONNECTION_DEADLINE: Duration = Duration::from_secs(10);
const MAX_CONNECTIONS: usize = 32;
const MAX_HEADER_BYTES: usize = 16 * 1024;
const NO_SUCH_PAGE: &str = "there are /livez, /readyz, /metrics and /verdict\n";
/// What has to stand in the configuration to listen where others reach it.
pub const EXPOSED: &str = "others can read the admin page";

/// What the page shows; each proxy has its own.
pub trait Pages: Send + Sync + 'static {
    fn readiness(&self) -> Readiness;
    /// The latest attestation results, as JSON.
    fn verdict(&self) -> String;
    /// Prometheus' text format.
    fn metrics(&self) -> String;
    /// What `/` shows; `None` where there is nothing for people.
    fn overview(&self) -> Option<Overview> {
        None
    }
}

/// A page of HTML, made by the server in full, and the style sheet that it links to as `/style.css`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overview {
    pub html: String,
    pub style: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    NotReady { why: String },
}

/// Where the page may be served; holding one means that the rule above was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminAddr(Addr);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    #[error(
        "the admin page on {addr} could be read by other machines; use loopback or unix:/path, or set admin_outside_host = {EXPOSED:?}"
    )]
    Outside { addr: Addr },
    #[error("admin_outside_host is {seen:?}; its only value is {EXPOSED:?}")]
    Phrase { seen: String },
}

impl AdminAddr {
    /// `outside` is the value of the setting `admin_outside_host`, if it is there.
    pub fn new(addr: Addr, outside: Option<&str>) -> Result<Self, AdminError> {
        match outside {
            Some(EXPOSED) => Ok(AdminAddr(addr)),
            Some(seen) => Err(AdminError::Phrase { seen: seen.to_owned() }),
            None if addr.is_local() => Ok(AdminAddr(addr)),
            None => Err(AdminError::Outside { addr }),
        }
    }

    pub fn addr(&self) -> &Addr {
        &self.0
    }
}

/// Serves the page until the drain of `tasks` begins. Give it tasks of its own, drained after those of the proxy, so that
/// it can be asked while connections finish; `/readyz` should say then that the proxy is draining.
pub async fn serve(listener: Listener, pages: Arc<dyn Pages>, tasks: Tasks) {
    let connections = Connections::new(MAX_CONNECTIONS, MAX_CONNECTIONS);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = tasks.draining() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Ok(permit) = connections.try_admit(peer) else { continue };
                let pages = Arc::clone(&pages);
                tasks.spawn("admin", async move {
                    let _permit = permit;
                    serve_one(stream, peer, pages).await;
                });
            }
            Err(e) => {
                tracing::error!(error = %e, "the admin page's listener failed");
                return;
            }
        }
    }
}

async fn serve_one(stream: LocalStream, peer: Peer, pages: Arc<dyn Pages>) {
    let service = service_fn(|request: Request<Incoming>| {
        let response = with_common_headers(answer(&request, peer, pages.as_ref()));
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(CONNECTION_DEADLINE)
        .keep_alive(false)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    // Neither a malformed request nor a slow one is worth an event: only processes of this machine can send them.
    let _ = tokio::time::timeout(CONNECTION_DEADLINE, connection).await;
}

fn answer<B>(request: &Request<B>, peer: Peer, pages: &dyn Pages) -> Response<Full<Bytes>> {
    match host_check(request, peer) {
        HostCheck::Ours => {}
        HostCheck::Malformed => return plain(StatusCode::BAD_REQUEST, "one Host header is needed\n"),
        HostCheck::Other => {
            return plain(StatusCode::MISDIRECTED_REQUEST, "ask by IP address or as localhost, not by another name\n");
        }
    }
    if request.method() != Method::GET {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
        return response;
    }
    match request.uri().path() {
        "/livez" => plain(StatusCode::OK, "ok\n"),
        "/readyz" => match pages.readiness() {
            Readiness::Ready => plain(StatusCode::OK, "ready\n"),
            Readiness::NotReady { why } => plain(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
        },
        "/metrics" => {
            typed(StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", pages.metrics())
        }
        "/verdict" => typed(StatusCode::OK, "application/json", pages.verdict()),
        path @ ("/" | "/style.css") => match (pages.overview(), path) {
            (Some(overview), "/") => typed(StatusCode::OK, "text/html; charset=utf-8", overview.html),
            (Some(overview), _) => typed(StatusCode::OK, "text/css; charset=utf-8", overview.style),
            (None, _) => plain(StatusCode::NOT_FOUND, NO_SUCH_PAGE),
        },
        _ => plain(StatusCode::NOT_FOUND, NO_SUCH_PAGE),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum HostCheck {
    Ours,
    Other,
    Malformed,
}

/// Whether a request was meant for us. What a unix socket brings was not sent by a browser, so any name is fine there.
fn host_check<B>(request: &Request<B>, peer: Peer) -> HostCheck {
    if peer == Peer::Unix {
        return HostCheck::Ours;
    }
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let named = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().ok(),
        (None, None) if request.version() == Version::HTTP_10 => return HostCheck::Ours,
        _ => None,
    };
    // In absolute form the authority counts too (RFC 9112 §3.2.2); both have to be ours.
    let in_target = request.uri().authority().map(|authority| authority.as_str());
    match named {
        None => HostCheck::Malformed,
        Some(host) if is_address_or_localhost(host) && in_target.is_none_or(is_address_or_localhost) => HostCheck::Ours,
        Some(_) => HostCheck::Other,
    }
}

fn is_address_or_localhost(authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    };
    let in_brackets = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match in_brackets {
        Some(inside) => inside.parse::<Ipv6Addr>().is_ok(),
        None => host.eq_ignore_ascii_case("localhost") || host.parse::<Ipv4Addr>().is_ok(),
    }
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    typed(status, "text/plain; charset=utf-8", text)
}

fn typed(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

fn with_common_headers(mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    let headers: &mut HeaderMap = response.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (
            header::CONTENT_SECURITY_POLICY,
            // Of everything that a page could fetch only our own style sheet; no script, from nowhere.
            "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::connect;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::Instant;

    struct Fixed(Readiness);

    impl Pages for Fixed {
        fn readiness(&self) -> Readiness {
            self.0.clone()
        }
        fn verdict(&self) -> String {
            r#"{"verdict":"accepted"}"#.into()
        }
        fn metrics(&self) -> String {
            "# EOF\n".into()
        }
    }

    struct ForPeople;

    impl Pages for ForPeople {
        fn readiness(&self) -> Readiness {
            Readiness::Ready
        }
        fn verdict(&self) -> String {
            String::new()
        }
        fn metrics(&self) -> String {
            String::new()
        }
        fn overview(&self) -> Option<Overview> {
            Some(Overview { html: "<!doctype html>".into(), style: "body {}" })
        }
    }

    async fn ask(addr: &Addr, readiness: Readiness, request: &str) -> String {
        ask_of(Arc::new(Fixed(readiness)), addr, request).await
    }

    async fn ask_of(pages: Arc<dyn Pages>, addr: &Addr, request: &str) -> String {
        let listener = Listener::bind(addr).await.unwrap();
        let bound = listener.local_addr().unwrap();
        let tasks = Tasks::new();
        tasks.spawn("admin", serve(listener, pages, tasks.clone()));
        let mut stream = connect(&bound, Instant::now() + Duration::from_secs(5)).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(tasks.drain(Duration::from_secs(5)).await, crate::tasks::Drained::Clean);
        answer
    }

    async fn get(path: &str) -> String {
        ask(&Addr::loopback(0), Readiness::Ready, &format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n")).await
    }

    #[tokio::test]
    async fn serves_its_four_pages() {
        assert!(get("/livez").await.ends_with("\r\n\r\nok\n"));
        assert!(get("/readyz").await.starts_with("HTTP/1.1 200"));
        assert!(get("/metrics").await.ends_with("# EOF\n"));
        assert!(get("/verdict").await.ends_with(r#"{"verdict":"accepted"}"#));
        assert!(get("/").await.starts_with("HTTP/1.1 404"));
    }

    #[tokio::test]
    async fn a_page_for_people_comes_with_its_style_sheet_and_may_fetch_nothing_else() {
        let get = async |path: &str| {
            let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            ask_of(Arc::new(ForPeople), &Addr::loopback(0), &request).await.to_ascii_lowercase()
        };
        let page = get("/").await;
        assert!(page.contains("content-type: text/html; charset=utf-8") && page.ends_with("<!doctype html>"), "{page}");
        assert!(page.contains("content-security-policy: default-src 'none'; style-src 'self'; frame-ancestors 'none'"));
        assert!(!page.contains("script-src"));
        let style = get("/style.css").await;
        assert!(style.contains("content-type: text/css") && style.ends_with("body {}"), "{style}");
        assert!(get("/favicon.ico").await.starts_with("http/1.1 404"));
    }

    #[tokio::test]
    async fn says_why_it_is_not_ready() {
        let not_ready = Readiness::NotReady { why: "draining".into() };
        let request = "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let answer = ask(&Addr::loopback(0), not_ready.clone(), request).await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("not ready: draining\n"), "{answer}");
        let live = ask(&Addr::loopback(0), not_ready, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        assert!(live.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn no_other_page_can_read_it() {
        let answer = get("/verdict").await.to_ascii_lowercase();
        assert!(answer.contains("content-security-policy: default-src 'none'"), "{answer}");
        assert!(answer.contains("x-content-type-options: nosniff"));
        assert!(!answer.contains("access-control"));
    }

    #[tokio::test]
    async fn refuses_names_that_could_be_rebound_to_us() {
        let host = async |host: &str| {
            let request = format!("GET /verdict HTTP/1.1\r\n{host}\r\n\r\n");
            ask(&Addr::loopback(0), Readiness::Ready, &request).await
        };
        for ours in ["Host: localhost", "Host: LOCALHOST:9", "Host: 10.0.0.1", "Host: [::1]:9", "Host: [::1]"] {
            assert!(host(ours).await.starts_with("HTTP/1.1 200"), "{ours}");
        }
        for other in
            ["Host: evil.example", "Host: evil.example:80", "Host: localhost.evil.example", "Host: ", "Host: [evil]"]
        {
            assert!(host(other).await.starts_with("HTTP/1.1 421"), "{other}");
        }
        for malformed in ["X: y", "Host: localhost\r\nHost: evil.example"] {
            assert!(host(malformed).await.starts_with("HTTP/1.1 400"), "{malformed}");
        }
        let absolute = "GET http://evil.example/verdict HTTP/1.1\r\nHost: localhost\r\n\r\n";
        assert!(ask(&Addr::loopback(0), Readiness::Ready, absolute).await.starts_with("HTTP/1.1 421"));
    }

    #[tokio::test]
    async fn changes_nothing_for_anybody() {
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "HEAD"] {
            let request = format!("{method} /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
            let answer = ask(&Addr::loopback(0), Readiness::Ready, &request).await;
            assert!(answer.starts_with("HTTP/1.1 405") && answer.contains("allow: GET"), "{method}: {answer}");
        }
    }

    #[tokio::test]
    async fn a_unix_socket_takes_any_host() {
        let dir = tempfile::tempdir().unwrap();
        let addr = Addr::Unix(dir.path().join("admin.sock"));
        let answer = ask(&addr, Readiness::Ready, "GET /livez HTTP/1.1\r\nHost: whatever\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200"));
    }

    #[test]
    fn listens_outside_only_when_the_setting_says_what_that_means() {
        let outside: Addr = "[::]:9".parse().unwrap();
        assert!(AdminAddr::new(Addr::loopback(9), None).is_ok());
        assert!(matches!(AdminAddr::new(outside.clone(), None), Err(AdminError::Outside { .. })));
        assert!(matches!(AdminAddr::new(outside.clone(), Some("true")), Err(AdminError::Phrase { .. })));
        assert!(AdminAddr::new(outside, Some(EXPOSED)).is_ok());
    }
}
