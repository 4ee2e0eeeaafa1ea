//! What ordinary HTTPS clients get: a reverse proxy to the upstream, after a TLS handshake that showed the
//! evidence-bearing leaf.
//!
//! ```text
//!  reverse  requests parsed, our headers stripped, streamed to the upstream over HTTP/1.1, connections reused
//!  raw      bytes both ways; also what is left of an HTTP connection after an upgrade (WebSocket)
//!  watch    counts bytes, ends what is silent for too long
//!  heads    ends HTTP/2 connections that ask for nothing
//!  places   what one source, and all clients together, may hold beyond their connections
//!  body     uploads that break off are aborted; answers hold their place until they are sent
//! ```
//!
//! Nothing of this concerns attested clients: their tunnels are bytes from end to end. A response that breaks off
//! upstream breaks off downstream too: the TLS connection then ends without close_notify, the HTTP/2 stream with a reset.

mod body;
mod forwarded;
mod heads;
mod places;
mod raw;
mod reverse;
mod upstream;
mod watch;

use std::io;
use std::sync::Arc;

use proxy_core::duration::{Period, Timeout};
use proxy_core::metrics::Counter;
use proxy_core::metrics::{Direction, Metrics};
use proxy_core::net::{Addr, Peer};
use proxy_core::tasks::Tasks;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use crate::config::{Config, UpstreamMode};
use forwarded::ForwardedRules;
use places::Places;
use watch::{Activity, Watched};

pub use places::further_upstreams;

const H2: &[u8] = b"h2";
const HTTP_1_1: &[u8] = b"http/1.1";

/// The proxy for ordinary clients. Cheap to clone.
#[derive(Clone)]
pub struct Plain {
    inner: Arc<Inner>,
}

struct Inner {
    upstream: Addr,
    mode: UpstreamMode,
    forwarded: ForwardedRules,
    connect_timeout: Period,
    first_byte_timeout: Period,
    idle_timeout: Timeout,
    lifetime: Period,
    /// Sockets to the upstream, and requests, beyond the one that each connection has.
    upstream_places: Places,
    request_places: Places,
    to_server: Counter,
    to_client: Counter,
    tasks: Tasks,
}

impl Plain {
    pub fn new(config: &Config, metrics: &Metrics, tasks: Tasks) -> Self {
        let limits = &config.limits;
        let further = further_upstreams(config);
        Plain {
            inner: Arc::new(Inner {
                upstream: config.upstream.addr.clone(),
                mode: config.upstream.mode,
                forwarded: ForwardedRules { headers: config.forwarded, client: config.x_forwarded_for },
                connect_timeout: limits.upstream_connect_timeout,
                first_byte_timeout: limits.first_byte_timeout,
                idle_timeout: limits.idle_timeout,
                lifetime: limits.lifetime,
                upstream_places: Places::new(further),
                request_places: Places::new(further),
                to_server: metrics.bytes(Direction::ToServer),
                to_client: metrics.bytes(Direction::ToClient),
                tasks,
            }),
        }
    }

    /// What to offer in ALPN: HTTP where the upstream speaks it, else nothing.
    pub fn alpn(&self) -> Vec<&'static [u8]> {
        match self.inner.mode {
            UpstreamMode::Http => vec![H2, HTTP_1_1],
            UpstreamMode::Tcp => vec![],
        }
    }

    /// Serves one client to its end; `alpn` is what the handshake agreed on. An error is about this connection only, and
    /// a client that went away in the middle is none.
    pub async fn serve<S>(&self, stream: S, alpn: Option<&[u8]>, peer: Peer) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let ends = Instant::now() + self.inner.lifetime.get();
        let activity = Activity::new(self.inner.to_server.clone(), self.inner.to_client.clone());
        let stream = Watched::new(stream, activity.clone());
        match self.inner.mode {
            UpstreamMode::Tcp => raw::serve(&self.inner, stream, &activity, ends).await,
            UpstreamMode::Http => reverse::serve(&self.inner, stream, alpn == Some(H2), peer, &activity, ends).await,
        }
    }
}

#[cfg(test)]
mod tests;
