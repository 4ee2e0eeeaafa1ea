//! One configured guest: opens attested tunnels to it, and remembers what its last evidence was worth.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use anyhow::{Context as _, Result};
use proxy_core::metrics::{Counted, Direction, Metrics, Verdict as Counter};
use proxy_core::net::LocalStream;
use proxy_core::relay::LimitReached;
use proxy_core::tasks::Tasks;
use proxy_core::tls::{ServerIdentity, client_config};
use proxy_core::tunnel::Traffic;
use ratls::appraise::{AttestationResult, Severity};
use ratls::verify::Root;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::attested::{AttestedStream, Carried, GuestTunnel, ProbeFailure};
use crate::audit::{AuditLog, KeptPolicy};
use crate::config::{self, ConfigError, Limits};
use crate::dial::{Deadlines, Target, Witness, now};
use crate::history::{History, Listed};
use crate::open::{BoxFuture, OpenError, Opened, Opener, Said, Tunnel};
use crate::pool::Pool;

/// From OPEN to ACCEPT: the guest gives its upstream five seconds unless told otherwise.
const ACCEPT: std::time::Duration = std::time::Duration::from_secs(30);

/// A guest and everything that opening a tunnel to it needs.
pub struct Guest {
    pub label: String,
    target: Target,
    pool: Arc<Pool>,
    metrics: Arc<Metrics>,
    latest: Mutex<Option<Latest>>,
    history: Arc<History>,
}

/// Connections that one tunnel may try, where those before ended without taking it. The last is a fresh one.
const ATTEMPTS: usize = 3;

/// A local connection under way through a tunnel.
type Carrying = BoxFuture<'static, Carried>;

struct Latest {
    result: Arc<AttestationResult>,
    said: Arc<Said>,
    attested: bool,
}

impl Guest {
    pub fn new(config: config::Guest, limits: &Limits, metrics: Arc<Metrics>, tasks: Tasks) -> Result<Self> {
        let tls = match &config.client_certificate {
            None => client_config(None).context("cannot set up TLS")?,
            Some(files) => {
                client_config(Some(read_identity(files)?)).map_err(|error| unusable(KEY, &files.key, &error))?
            }
        };
        let target = Target {
            server_name: server_name(&config)?,
            addresses: config.addresses,
            tls: Arc::new(tls),
            policy: Some(Arc::new(config.policy.policy)),
            // The signatures of a batch, and a guest's chain, are verified once.
            anchors: Arc::new(config.policy.anchors.remembering()),
            known: Arc::default(),
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
            audit: None,
        };
        let pool = Pool::new(limits.pool);
        Ok(Guest { label: config.label, target, pool, metrics, latest: Mutex::new(None), history: Arc::default() })
    }

    /// The same, with every verdict written down.
    pub fn audited(mut self, log: Arc<AuditLog>, policy: KeptPolicy) -> Self {
        self.target.audit = Some(Witness { log, guest: self.label.clone(), policy });
        self
    }

    /// What happened lately, for the admin page.
    pub fn history(&self) -> &Arc<History> {
        &self.history
    }

    /// The last result, and whether this guest was ever accepted.
    pub fn latest(&self) -> Option<(Arc<AttestationResult>, bool)> {
        let latest = self.latest.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        latest.as_ref().map(|latest| (latest.result.clone(), latest.attested))
    }

    /// Attests the guest once, for readiness; the connection waits for the first tunnel.
    pub async fn probe(&self) -> Result<(), OpenError> {
        let stream = self.fresh().await?;
        self.pool.put(stream, &self.target.tasks);
        Ok(())
    }

    /// Makes connections ahead of demand and drops old ones, until the drain.
    pub async fn keep_pool(self: Arc<Self>) {
        if self.pool.is_on() {
            let (pool, tasks) = (self.pool.clone(), self.target.tasks.clone());
            pool.keep(tasks, || {
                let guest = self.clone();
                async move { guest.fresh().await }
            })
            .await;
        }
    }

    /// A connection that was attested just now.
    async fn fresh(&self) -> Result<AttestedStream, OpenError> {
        let attested = Box::pin(self.target.attested_with_result()).await;
        let said = self.record(&attested.as_ref().map(|(_, result)| result.clone()).map_err(Clone::clone));
        attested.map(|(mut stream, _)| {
            if let Some(said) = said {
                stream.say_with(&said);
            }
            stream
        })
    }

    /// What a connection is kept under (docs/protocol.md, "The client's side"). SNI and client identity are fixed for an entry, whose pool this is; address and policy are
    /// compared with what the entry has now.
    fn is_current(&self, stream: &AttestedStream) -> bool {
        let policy = self.target.policy.as_ref().map(|policy| policy.digest());
        stream.policy_digest() == policy
            && self.target.addresses.iter().any(|address| address.to_string() == stream.address())
    }

    /// A tunnel whose OPEN is on its way: over a connection of the pool, or where `fresh` or there is none over a new one.
    async fn tunnel(&self, name: Option<&str>, fresh: bool, early: bool) -> Result<GuestTunnel, OpenError> {
        let lease = self.pool.lease();
        let home = self.pool.is_on().then(|| self.pool.clone());
        let pooled = match fresh || home.is_none() {
            true => None,
            false => self.pool.take(|stream| self.is_current(stream), &self.target.tasks),
        };
        if let Some(stream) = pooled {
            let probe = stream.needs_probe();
            // Where even OPEN does not go out, nothing has happened.
            if let Ok(tunnel) = stream.open_from(name, &self.target, home.clone(), early && !probe).await {
                if !probe {
                    return Ok(tunnel.leased(lease));
                }
                match tunnel.probed().await {
                    Ok(tunnel) => return Ok(tunnel.leased(lease)),
                    Err(ProbeFailure::Refused(error)) => return Err(error),
                    Err(ProbeFailure::Ended) => {}
                    // What rested as long went the same way; each of them would cost an application another second.
                    Err(ProbeFailure::Silent) => self.pool.forget_rested(&self.target.tasks),
                }
            }
        }
        Ok(self.fresh().await?.open_from(name, &self.target, home, early).await?.leased(lease))
    }

    /// A tunnel that the guest has accepted.
    async fn accepted(&self, name: Option<&str>) -> Result<GuestTunnel, OpenError> {
        let mut attempt = 1;
        loop {
            match self.tunnel(name, attempt == ATTEMPTS, false).await?.taken().await {
                Ok(tunnel) => return Ok(tunnel),
                Err(refused) if refused.again && attempt < ATTEMPTS => attempt += 1,
                Err(refused) => return Err(refused.error),
            }
        }
    }

    /// Waits for what carries a local connection, and where the guest closed before it took the tunnel, carries it over another.
    async fn carry(&self, mut carried: Carrying, traffic: Arc<Traffic>, name: Option<&str>) -> io::Result<()> {
        let mut attempt = 1;
        loop {
            let (again, early, error) = match carried.await {
                Carried::Done => return Ok(()),
                Carried::Failed(error) => return Err(error),
                Carried::Again { local, early, error } => (local, early, error),
            };
            attempt += 1;
            let next = match attempt <= ATTEMPTS {
                true => Box::pin(self.tunnel(name, attempt == ATTEMPTS, true)).await.map_err(io::Error::other),
                false => Err(error),
            };
            match next.and_then(|mut next| next.take_over(early, traffic.clone()).map(|()| next)) {
                Ok(next) => carried = Box::pin(next.carry(again)),
                Err(error) => {
                    again.abort();
                    return Err(error);
                }
            }
        }
    }

    /// What the last result says, where there is one.
    fn record(&self, outcome: &Result<Arc<AttestationResult>, OpenError>) -> Option<Arc<Said>> {
        self.history.record(outcome, now());
        let (result, accepted) = match outcome {
            Ok(result) => (result.clone(), true),
            Err(OpenError::Refused { result, .. }) => (result.clone(), false),
            Err(_) => return None,
        };
        let fatal = || {
            result.findings().iter().filter(|finding| finding.severity() == Severity::Fatal).map(|finding| finding.id())
        };
        if accepted {
            self.metrics.verdict(Counter::Accepted, []);
        } else {
            self.metrics.verdict(Counter::Refused, fatal());
        }
        for cell in result.levels().cells() {
            let anchor = cell.anchor().map_or("none", Root::as_str);
            self.metrics.level(cell.component().as_str(), cell.level().as_str(), anchor);
        }
        let said = Said::of(&result);
        let mut latest = self.latest.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let before = latest.as_ref().filter(|latest| *latest.said == said).map(|latest| latest.said.clone());
        if before.is_none() {
            tracing::info!(
                guest = %self.label,
                verdict = result.verdict().as_str(),
                reasons = %fatal().collect::<Vec<_>>().join(" "),
                levels = %said.levels,
                "{}attestation result",
                if result.simulated() { "SIMULATED, PROVES NOTHING: " } else { "" },
            );
        }
        let attested = accepted || latest.as_ref().is_some_and(|latest| latest.attested);
        let said = before.unwrap_or_else(|| Arc::new(said));
        *latest = Some(Latest { result, said: said.clone(), attested });
        Some(said)
    }

    fn counted(self: &Arc<Self>, tunnel: GuestTunnel) -> Box<dyn Tunnel> {
        let open = self.metrics.tunnel();
        let listed = self.history.open(now(), tunnel.traffic());
        let ends = Box::pin(tokio::time::sleep_until(tunnel.ends()));
        Box::new(CountedTunnel { guest: self.clone(), tunnel: Some(tunnel), ends, _open: open, _listed: listed })
    }
}

/// A guest as a way in sees it.
pub struct Opens(pub Arc<Guest>);

impl Opener for Opens {
    fn open<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Opened, OpenError>> {
        Box::pin(async move {
            let tunnel = self.0.accepted(Some(host_of(name))).await?;
            let said = tunnel.said().clone();
            Ok(Opened { tunnel: self.0.counted(tunnel), said })
        })
    }

    fn open_early<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Opened, OpenError>> {
        Box::pin(async move {
            let tunnel = self.0.tunnel(None, false, true).await?;
            let said = tunnel.said().clone();
            Ok(Opened { tunnel: self.0.counted(tunnel), said })
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
    guest: Arc<Guest>,
    /// `None` only after `relay` took it.
    tunnel: Option<GuestTunnel>,
    /// No byte passes after this; `relay` has the same limit of its own.
    ends: Pin<Box<tokio::time::Sleep>>,
    _open: Counted,
    _listed: Listed,
}

impl CountedTunnel {
    fn stream(&mut self, cx: &mut Context<'_>) -> io::Result<&mut GuestTunnel> {
        if self.ends.as_mut().poll(cx).is_ready() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, LimitReached::Lifetime));
        }
        self.tunnel.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

fn count(metrics: &Metrics, traffic: &Traffic) {
    use std::sync::atomic::Ordering::Relaxed;
    metrics.bytes(Direction::ToServer).inc_by(traffic.sent.load(Relaxed));
    metrics.bytes(Direction::ToClient).inc_by(traffic.received.load(Relaxed));
}

impl Drop for CountedTunnel {
    fn drop(&mut self) {
        if let Some(tunnel) = self.tunnel.take() {
            count(&self.guest.metrics, &tunnel.traffic());
            tunnel.finish();
        }
    }
}

impl Tunnel for CountedTunnel {
    fn relay(mut self: Box<Self>, local: LocalStream) -> BoxFuture<'static, io::Result<()>> {
        let Some(tunnel) = self.tunnel.take() else {
            return Box::pin(async { Err(io::ErrorKind::NotConnected.into()) });
        };
        let traffic = tunnel.traffic();
        let carried: Carrying = Box::pin(tunnel.carry(local));
        Box::pin(async move {
            // Only a tunnel that names no target can still be opened again here: the others were accepted before.
            let result = self.guest.carry(carried, traffic.clone(), None).await;
            count(&self.guest.metrics, &traffic);
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

const KEY: &str = "client_key";

/// What is wrong with it, the operator has to mend.
fn read_identity(files: &config::ClientCertificate) -> Result<ServerIdentity, ConfigError> {
    let chain = CertificateDer::pem_file_iter(&files.certificates)
        .and_then(Iterator::collect)
        .map_err(|error| unusable("client_certificate", &files.certificates, &error))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| unusable(KEY, &files.key, &error))?;
    Ok(ServerIdentity { chain, key })
}

fn unusable(key: &'static str, file: &Path, error: &dyn std::error::Error) -> ConfigError {
    ConfigError::Identity { key, file: file.to_owned(), problem: proxy_core::exit::chain(error) }
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
