//! One GET at a key service: a new connection, a deadline, a bound on the answer. Knows nothing of what is fetched.
//!
//! TLS against the system's roots keeps strangers from reading which chip asks; nothing rests on it for authenticity, because every
//! certificate is verified against AMD's pinned roots afterwards. Redirects are not followed.

use bytes::Bytes;
use http::header::{HOST, RETRY_AFTER, USER_AGENT};
use http::uri::Scheme;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;

/// Bytes of a response head.
const MAX_HEAD: usize = 16 * 1024;

pub(crate) struct Client {
    base: Base,
    timeout: Duration,
    tls: OnceCell<TlsConnector>,
    only_elsewhere: bool,
}

/// An address such as `https://kdsintf.amd.com`, perhaps with a path in front of the service's own.
struct Base {
    tls: bool,
    host: String,
    port: u16,
    /// As it stands in the Host header.
    authority: String,
    /// Without a slash at the end.
    prefix: String,
}

/// The base URL cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{url:?} is not an http or https URL with a host and without a query")]
pub struct BaseUrlError {
    pub url: String,
}

/// What came back. Only a body of status 200 is read.
pub(crate) enum Answer {
    Body(Bytes),
    Status { status: StatusCode, retry_after: Option<Duration> },
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("no answer within {} s", .0.as_secs_f32())]
    Timeout(Duration),
    #[error("the answer has more than {0} bytes")]
    TooLarge(usize),
    #[error("{0}")]
    Transport(String),
}

impl HttpError {
    fn transport(what: &'static str) -> impl Fn(&dyn std::fmt::Display) -> HttpError {
        move |error| HttpError::Transport(format!("{what}: {error}"))
    }
}

impl Base {
    fn parse(url: &str) -> Result<Self, BaseUrlError> {
        let refused = || BaseUrlError { url: url.to_owned() };
        let uri: Uri = url.parse().map_err(|_| refused())?;
        let tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(refused()),
        };
        let authority = uri.authority().filter(|a| !a.host().is_empty() && !a.as_str().contains('@'));
        let authority = authority.filter(|_| uri.query().is_none()).ok_or_else(refused)?;
        Ok(Base {
            tls,
            host: authority.host().trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            authority: authority.as_str().to_owned(),
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

impl Client {
    pub(crate) fn new(base_url: &str, timeout: Duration) -> Result<Self, BaseUrlError> {
        Ok(Client { base: Base::parse(base_url)?, timeout, tls: OnceCell::new(), only_elsewhere: false })
    }

    /// Refuses to talk to this machine itself: for addresses that somebody else chose.
    pub(crate) fn only_elsewhere(self) -> Self {
        Client { only_elsewhere: true, ..self }
    }

    /// `path` begins with a slash and may have a query.
    pub(crate) async fn get(&self, path: &str, max_bytes: usize) -> Result<Answer, HttpError> {
        self.get_with(path, max_bytes, None).await
    }

    /// With one header more.
    pub(crate) async fn get_with(
        &self,
        path: &str,
        max_bytes: usize,
        header: Option<(&'static str, &'static str)>,
    ) -> Result<Answer, HttpError> {
        let whole = tokio::time::timeout(self.timeout, self.get_unbounded(path, max_bytes, header));
        whole.await.unwrap_or(Err(HttpError::Timeout(self.timeout)))
    }

    async fn get_unbounded(
        &self,
        path: &str,
        max_bytes: usize,
        header: Option<(&'static str, &'static str)>,
    ) -> Result<Answer, HttpError> {
        let tcp = TcpStream::connect((self.base.host.as_str(), self.base.port))
            .await
            .map_err(|error| HttpError::transport("cannot connect")(&error))?;
        if self.only_elsewhere && tcp.peer_addr().is_ok_and(|peer| peer.ip().to_canonical().is_loopback()) {
            return Err(HttpError::Transport("it is an address of this machine itself".into()));
        }
        if !self.base.tls {
            return self.exchange(tcp, path, max_bytes, header).await;
        }
        let name = ServerName::try_from(self.base.host.clone())
            .map_err(|error| HttpError::transport("not a name of a server")(&error))?;
        let connector = self.tls.get_or_try_init(tls_connector).await?;
        let tls = connector.connect(name, tcp).await.map_err(|error| HttpError::transport("TLS")(&error))?;
        self.exchange(tls, path, max_bytes, header).await
    }

    async fn exchange<S>(
        &self,
        stream: S,
        path: &str,
        max_bytes: usize,
        header: Option<(&'static str, &'static str)>,
    ) -> Result<Answer, HttpError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let transport = HttpError::transport("HTTP");
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| transport(&error))?;
        let mut request = Request::get(format!("{}{path}", self.base.prefix))
            .header(HOST, &self.base.authority)
            .header(USER_AGENT, "evident");
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| transport(&error))?;
        let answer = async move {
            let response = sender.send_request(request).await.map_err(|error| transport(&error))?;
            if response.status() != StatusCode::OK {
                let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
                // The other form, a date, would need a clock; without a number the caller's own back-off holds.
                let retry_after = retry_after.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
                return Ok(Answer::Status { status: response.status(), retry_after });
            }
            let body = Limited::new(response.into_body(), max_bytes).collect().await;
            match body {
                Ok(body) => Ok(Answer::Body(body.to_bytes())),
                Err(error) if error.is::<LengthLimitError>() => Err(HttpError::TooLarge(max_bytes)),
                Err(error) => Err(transport(&error)),
            }
        };
        // The connection is driven here and ends with the answer; there is no task to leave behind.
        let mut connection = std::pin::pin!(connection);
        let mut answer = std::pin::pin!(answer);
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            ended = &mut connection => match ended {
                Ok(()) => answer.await,
                Err(error) => Err(HttpError::transport("HTTP")(&error)),
            },
        }
    }
}

/// Read at the first request and not at the start: a guest whose host gives the certificates needs no root store.
async fn tls_connector() -> Result<TlsConnector, HttpError> {
    let loaded = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs)
        .await
        .map_err(|error| HttpError::transport("the system's root certificates")(&error))?;
    let mut roots = rustls::RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(loaded.certs);
    if added == 0 {
        return Err(HttpError::Transport("the system has no root certificates (package ca-certificates)".into()));
    }
    #[cfg(feature = "aws-lc-rs")]
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    #[cfg(not(feature = "aws-lc-rs"))]
    let provider = rustls::crypto::ring::default_provider();
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| HttpError::transport("TLS")(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_has_a_scheme_and_a_host() {
        let base = Base::parse("https://kdsintf.amd.com").unwrap();
        assert_eq!((base.tls, base.host.as_str(), base.port, base.prefix.as_str()), (true, "kdsintf.amd.com", 443, ""));
        let base = Base::parse("http://[::1]:8080/mirror/").unwrap();
        assert_eq!((base.tls, base.host.as_str(), base.port, base.prefix.as_str()), (false, "::1", 8080, "/mirror"));
        for url in ["", "kdsintf.amd.com", "ftp://a", "https://", "https://a?b", "https://user@a", "file:///etc"] {
            assert!(Base::parse(url).is_err(), "{url:?}");
        }
    }
}
