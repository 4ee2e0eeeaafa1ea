//! One configured guest: opens attested tunnels to it, and remembers what its last evidence was worth.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use anyhow::{Context as _, Result};
use proxy_core::metrics::{Counted, Direction, Metrics, Verdict as Counter};
use proxy_core::net::LocalStream;
use proxy_core::relay::LimitReached;
use proxy_core::tasks::Tasks;
use proxy_core::tls::{ServerIdentity, client_config};
use ratls::appraise::{AttestationResult, Severity};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::config::{self, Limits};
use crate::dial::{Deadlines, GuestTunnel, Target};
use crate::open::{BoxFuture, OpenError, Opened, Opener, Tunnel};

/// From OPEN to ACCEPT: the guest gives its upstream five seconds unless told otherwise.
const ACCEPT: std::time::Duration = std::time::Duration::from_secs(30);

/// A guest and everything that opening a tunnel to it needs.
pub struct Guest {
    pub label: String,
    target: Target,
    metrics: Arc<Metrics>,
    latest: Mutex<Option<Latest>>,
}

struct Latest {
    result: Arc<AttestationResult>,
    attested: bool,
}

impl Guest {
    pub fn new(config: config::Guest, limits: &Limits, metrics: Arc<Metrics>, tasks: Tasks) -> Result<Self> {
        let identity = config.client_certificate.as_ref().map(read_identity).transpose()?;
        let tls = client_config(identity).context("cannot set up TLS")?;
        let target = Target {
            server_name: server_name(&config)?,
            addresses: config.addresses,
            tls: Arc::new(tls),
            policy: Some(Arc::new(config.policy.policy)),
            anchors: Arc::new(config.policy.anchors),
            token: config.token.as_ref().map(|token| token.as_bytes().to_vec()),
            deadlines: Deadlines {
                connect: limits.connect,
                handshake: limits.handshake,
                attest: limits.attest,
                accept: ACCEPT,
                idle: limits.idle,
                lifetime: limits.lifetime,
            },
            tasks,
        };
        Ok(Guest { label: config.label, target, metrics, latest: Mutex::new(None) })
    }

    /// The last result, and whether this guest was ever accepted.
    pub fn latest(&self) -> Option<(Arc<AttestationResult>, bool)> {
        let latest = self.latest.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        latest.as_ref().map(|latest| (latest.result.clone(), latest.attested))
    }

    /// Attests the guest once and lets the connection go: for readiness.
    pub async fn probe(&self) -> Result<(), OpenError> {
        let stream = self.target.attested().await;
        self.record(&stream.as_ref().map(|stream| stream.result()).map_err(Clone::clone));
        stream?.close().await;
        Ok(())
    }

    async fn tunnel(&self, name: Option<&str>) -> Result<(GuestTunnel, Arc<AttestationResult>), OpenError> {
        let stream = self.target.attested().await;
        self.record(&stream.as_ref().map(|stream| stream.result()).map_err(Clone::clone));
        let stream = stream?;
        let result = stream.result();
        Ok((stream.open(name, &self.target).await?, result))
    }

    fn record(&self, outcome: &Result<Arc<AttestationResult>, OpenError>) {
        let (result, accepted) = match outcome {
            Ok(result) => (result.clone(), true),
            Err(OpenError::Refused { result, .. }) => (result.clone(), false),
            Err(_) => return,
        };
        let fatal = || {
            result.findings().iter().filter(|finding| finding.severity() == Severity::Fatal).map(|finding| finding.id())
        };
        if accepted {
            self.metrics.verdict(Counter::Accepted, []);
        } else {
            self.metrics.verdict(Counter::Refused, fatal());
        }
        let mut latest = self.latest.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let changed = latest.as_ref().is_none_or(|latest| latest.result.verdict() != result.verdict());
        if changed {
            tracing::info!(
                guest = %self.label,
                verdict = result.verdict().as_str(),
                reasons = %fatal().collect::<Vec<_>>().join(" "),
                "{}attestation result",
                if result.simulated() { "SIMULATED, PROVES NOTHING: " } else { "" },
            );
        }
        let attested = accepted || latest.as_ref().is_some_and(|latest| latest.attested);
        *latest = Some(Latest { result, attested });
    }

    fn counted(&self, tunnel: GuestTunnel) -> Box<dyn Tunnel> {
        let open = self.metrics.tunnel();
        let ends = Box::pin(tokio::time::sleep_until(tunnel.ends()));
        Box::new(CountedTunnel { metrics: self.metrics.clone(), tunnel: Some(tunnel), ends, _open: open })
    }
}

impl Opener for Guest {
    fn open<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Opened, OpenError>> {
        Box::pin(async move {
            let (tunnel, result) = self.tunnel(Some(host_of(name))).await?;
            let tunnel = tunnel.accepted().await?;
            Ok(Opened { tunnel: self.counted(tunnel), result })
        })
    }

    fn open_early<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Opened, OpenError>> {
        Box::pin(async move {
            let (tunnel, result) = self.tunnel(None).await?;
            Ok(Opened { tunnel: self.counted(tunnel), result })
        })
    }
}

/// `host` of `host:port`, `[v6]:port` and `host`.
fn host_of(name: &str) -> &str {
    match name.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => name.rsplit_once(':').map_or(name, |(host, _)| host),
    }
}

/// Counts bytes when the tunnel is over, however it ends.
struct CountedTunnel {
    metrics: Arc<Metrics>,
    /// `None` only after `relay` took it.
    tunnel: Option<GuestTunnel>,
    /// No byte passes after this; `relay` has the same limit of its own.
    ends: Pin<Box<tokio::time::Sleep>>,
    _open: Counted,
}

impl CountedTunnel {
    fn stream(&mut self, cx: &mut Context<'_>) -> io::Result<&mut GuestTunnel> {
        if self.ends.as_mut().poll(cx).is_ready() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, LimitReached::Lifetime));
        }
        self.tunnel.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

fn count(metrics: &Metrics, traffic: &proxy_core::tunnel::Traffic) {
    use std::sync::atomic::Ordering::Relaxed;
    metrics.bytes(Direction::ToServer).inc_by(traffic.sent.load(Relaxed));
    metrics.bytes(Direction::ToClient).inc_by(traffic.received.load(Relaxed));
}

impl Drop for CountedTunnel {
    fn drop(&mut self) {
        if let Some(tunnel) = &self.tunnel {
            count(&self.metrics, &tunnel.traffic());
        }
    }
}

impl Tunnel for CountedTunnel {
    fn relay(mut self: Box<Self>, local: LocalStream) -> BoxFuture<'static, io::Result<()>> {
        Box::pin(async move {
            let Some(tunnel) = self.tunnel.take() else { return Err(io::ErrorKind::NotConnected.into()) };
            let traffic = tunnel.traffic();
            let result = tunnel.relay(local).await;
            count(&self.metrics, &traffic);
            result
        })
    }
}

impl AsyncRead for CountedTunnel {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream(cx)?.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for CountedTunnel {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream(cx)?.stream).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream(cx)?.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream(cx)?.stream).poll_shutdown(cx)
    }
}

/// SNI is for routing only; where nothing is configured it is the host of the first address.
fn server_name(config: &config::Guest) -> Result<ServerName<'static>> {
    let name = match (&config.server_name, config.addresses.first()) {
        (Some(name), _) => name.clone(),
        (None, Some(address)) => host_of(&address.to_string()).to_owned(),
        (None, None) => "evident.invalid".to_owned(),
    };
    ServerName::try_from(name.clone()).with_context(|| format!("{name:?} cannot be a TLS server name"))
}

fn read_identity(files: &config::ClientCertificate) -> Result<ServerIdentity> {
    let chain = CertificateDer::pem_file_iter(&files.certificates)
        .and_then(Iterator::collect)
        .with_context(|| format!("cannot read the client certificate {}", files.certificates.display()))?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .with_context(|| format!("cannot read the client key {}", files.key.display()))?;
    Ok(ServerIdentity { chain, key })
}

#[cfg(test)]
mod tests {
    use super::host_of;

    #[test]
    fn the_host_is_what_stands_before_the_port() {
        for (name, host) in
            [("a.example:443", "a.example"), ("a.example", "a.example"), ("[::1]:80", "::1"), ("[::1]", "::1")]
        {
            assert_eq!(host_of(name), host);
        }
    }
}
