//! What a way in (port map, HTTP proxy, SOCKS5) asks of the rest: one attested tunnel to the guest behind a name.
//!
//! A way in never sees a connection that was not accepted by the policy: [`Opened`] holds the accepted result and a
//! stream that exists only behind it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ratls::appraise::{AttestationResult, Finding, Severity};
use tokio::io::{AsyncRead, AsyncWrite};

/// A tunnel through an attested connection.
///
/// Reading ends with `Ok(0)` only where the far side ended cleanly (FIN); every other end is an error. `poll_shutdown`
/// sends FIN for our direction. Dropping it before both directions ended aborts the tunnel at the far side.
pub trait Tunnel: AsyncRead + AsyncWrite + Send + Unpin {
    /// Carries `local` through the tunnel until both directions have ended; on an abort resets `local`.
    fn relay(self: Box<Self>, local: proxy_core::net::LocalStream) -> BoxFuture<'static, io::Result<()>>;
}

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A tunnel that is open: the upstream behind the guest is connected.
pub struct Opened {
    pub tunnel: Box<dyn Tunnel>,
    /// What the result of the connection that carries the tunnel says.
    pub said: Arc<Said>,
}

/// An accepted result in words, as headers have it. The result itself is not kept for each connection: it holds its evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// `accepted`, and whether that is worth anything.
    pub verdict: String,
    /// The trust table.
    pub levels: String,
}

impl Said {
    pub fn of(result: &AttestationResult) -> Said {
        let mut verdict = result.verdict().as_str().to_owned();
        if result.simulated() {
            verdict.push_str("; simulated");
        }
        Said { verdict, levels: result.level_words() }
    }
}

/// Why there is no tunnel. Each way in says it in its own protocol, with every reason.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No `[[guest]]` entry has this name; nothing was contacted.
    #[error("no guest is configured under the name {name:?}")]
    UnknownName { name: String },
    /// The guest answered, and what it proved is not what the policy accepts (or it proved nothing).
    #[error("the guest at {address} is refused: {}", summary(.result))]
    Refused { address: String, result: Arc<AttestationResult> },
    /// No TCP or TLS connection with EVIDENT behind it.
    #[error("cannot reach the guest at {address}: {reason}")]
    Unreachable { address: String, reason: String },
    /// The guest is attested, and does not let us in: the access token is missing or wrong.
    #[error("the guest at {address} denies access: {reason}")]
    AccessDenied { address: String, reason: String },
    /// The guest is there but cannot attest at the moment.
    #[error("the guest at {address} is busy: {reason}")]
    Busy { address: String, reason: String, retry_after: Duration },
    /// The guest is attested, but its upstream did not take the connection.
    #[error("the guest's upstream refused the connection: {reason}")]
    UpstreamRefused { code: u16, reason: String },
    /// A limit of this proxy.
    #[error("{reason}")]
    Limit { reason: String },
}

fn summary(result: &AttestationResult) -> String {
    let ids: Vec<&str> = result.findings().iter().filter(|f| f.severity() == Severity::Fatal).map(|f| f.id()).collect();
    ids.join(", ")
}

impl OpenError {
    /// Every finding behind a refusal; empty for the other kinds.
    pub fn findings(&self) -> &[Finding] {
        match self {
            OpenError::Refused { result, .. } => result.findings(),
            _ => &[],
        }
    }
}

/// Opens tunnels by the name that the application asked for (`host` or `host:port`).
pub trait Opener: Send + Sync + 'static {
    /// The tunnel, once the upstream behind the guest is connected.
    fn open<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Opened, OpenError>>;

    /// The tunnel at once after the verdict: what the application sends goes out beside OPEN, a round trip earlier. A
    /// refusal of the upstream then comes as an error of the tunnel. For ways in that tell the application nothing.
    fn open_early<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Opened, OpenError>> {
        self.open(name)
    }
}
