//! One connection at the guest, from its first byte to its last.
//!
//! ```text
//! ClientHello ── evident/1 ──▶ first flight ─ exporter ─▶ leaf ─▶ batch ─▶ ATTEST (half-RTT) ─▶ OPEN ─▶ upstream ─▶ relay
//!             └─ other ALPN ─▶ evidence-bearing leaf ─▶ plain reverse proxy, if the operator allows it
//! ```
//!
//! Every wait on the peer has a deadline. The evidence of a connection is made for that connection; there is no older one
//! to fall back to.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use attester::endorse::Standing;
use attester::platform::Part;
use attester::{AttestError, AttestHandle, Attestation};
use proxy_core::framing::Framed;
use proxy_core::limits::PerSource;
use proxy_core::metrics::{Kind, Metrics};
use proxy_core::net::{Addr, LocalStream, Peer};
use proxy_core::tasks::Tasks;
use proxy_core::tls::{Hello, Records, ServerTls};
use ratls::binding::{ChannelLeaf, Role, SpkiDigest};
use ratls::wire::ALPN;
use ratls::wire::attest::{Attest, AttestPurpose, Endorsement, features};
use ratls::wire::control::{Close, CloseCode};
use ratls::wire::frame::FrameType;
use ratls::wire::limits::MAX_ATTEST;
use rustls::ServerConfig;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use crate::asked::{Asked, PartBudget};
use crate::machine::Certificates;
use crate::plain::Plain;
use crate::session::Session;
use crate::tokens::Tokens;

/// How long each step may take.
#[derive(Clone, Debug)]
pub struct Deadlines {
    pub client_hello: Duration,
    pub handshake: Duration,
    /// From the leaf to its evidence.
    pub attest: Duration,
    pub upstream_connect: Duration,
    /// From ATTEST to the first OPEN, and between tunnels.
    pub pool_idle: Duration,
    /// Without a byte in either direction; `None` where silence is normal.
    pub idle: Option<Duration>,
    pub lifetime: Duration,
}

/// What ordinary clients get.
pub struct PlainService {
    pub config: watch::Receiver<Arc<ServerConfig>>,
    pub alpn: Vec<&'static [u8]>,
    pub proxy: Plain,
}

/// Everything that serving a connection needs; one per process.
pub struct Guest {
    pub evident: ServerConfig,
    pub plain: Option<PlainService>,
    pub spki: SpkiDigest,
    pub attest: AttestHandle,
    pub standing: watch::Receiver<Standing>,
    /// Of the AK's certificate.
    pub issuers: watch::Receiver<Certificates>,
    /// The effective settings behind statement key 11, served as a part.
    pub settings: Part,
    /// Bytes of parts that one source may fetch.
    pub part_budget: PartBudget,
    pub upstream: Addr,
    /// Names that OPEN may ask for; empty: any, the upstream is the same.
    pub names: Vec<String>,
    pub tokens: Option<Tokens>,
    /// Connections of one source that wait for the answer to a wrong token.
    pub wrong_tokens: PerSource,
    pub deadlines: Deadlines,
    /// Attested connections of one source that carry no tunnel.
    pub idle: PerSource,
    pub metrics: Arc<Metrics>,
    pub tasks: Tasks,
}

/// What this guest offers in ATTEST key 12.
pub(crate) const FEATURES: u64 = features::REUSE;

/// Until the handshake is over.
type Shaking = ServerTls<LocalStream>;
/// From then on.
pub(crate) type Tls = Records<LocalStream>;

impl Guest {
    /// Serves one connection to its end. Errors are logged here: nobody else can do anything about them.
    pub async fn serve(self: Arc<Self>, stream: LocalStream, peer: Peer) {
        if let Err(end) = self.serve_inner(stream, peer).await {
            self.metrics.refused_connection(end.stage);
            tracing::info!(stage = end.stage, peer = %peer, error = %end.error, "connection ended early");
        }
    }

    async fn serve_inner(&self, stream: LocalStream, peer: Peer) -> Result<(), End> {
        let started = Instant::now();
        let reading = Box::pin(Hello::read(stream));
        let hello = Box::new(within("client hello", self.deadlines.client_hello, reading).await?);
        if hello.offers(ALPN) {
            // On the heap, like the plain service below: a peer that has sent no ClientHello must not hold room for all of it.
            return Box::pin(self.attested(hello, peer, started)).await;
        }
        Box::pin(self.ordinary(hello, peer)).await
    }

    /// A client of plain TLS: served where the operator allows it, told so where not.
    async fn ordinary(&self, hello: Box<Hello<LocalStream>>, peer: Peer) -> Result<(), End> {
        match &self.plain {
            Some(plain) if plain.alpn.is_empty() || hello.offers_any_or_none(&plain.alpn) => {
                let _open = self.metrics.connection(Kind::Plain);
                let config = plain.config.borrow().clone();
                let mut tls = (*hello).start(&config).map_err(at("plain handshake"))?;
                within("plain handshake", self.deadlines.handshake, tls.finish_handshake()).await?;
                let alpn = tls.connection().alpn_protocol().map(<[u8]>::to_vec);
                tls.check_profile(alpn.as_deref()).map_err(at("plain handshake"))?;
                Box::pin(plain.proxy.serve(tls, alpn.as_deref(), peer)).await.map_err(at("plain"))
            }
            _ => {
                within("protocol refused", self.deadlines.client_hello, (*hello).refuse_protocol()).await?;
                Err(End::new("protocol refused", "the client does not offer evident/1 and plain clients are refused"))
            }
        }
    }

    /// Tunnels, after the handshake has given back all that it needed: most of a connection's life is waiting.
    async fn attested(&self, hello: Box<Hello<LocalStream>>, peer: Peer, started: Instant) -> Result<(), End> {
        let (framed, asked) = Box::pin(self.show(hello, peer, started)).await?;
        let _open = self.metrics.connection(Kind::Attested);
        let session = Session { guest: self, peer, ends: started + self.deadlines.lifetime, accepted: 0, asked };
        Box::pin(session.run(Box::new(framed))).await
    }

    /// The handshake and ATTEST.
    async fn show(
        &self,
        hello: Box<Hello<LocalStream>>,
        peer: Peer,
        started: Instant,
    ) -> Result<(Framed<Tls>, Asked), End> {
        let handshake_ends = started + self.deadlines.client_hello + self.deadlines.handshake;
        let mut tls = (*hello).start(&self.evident).map_err(at("handshake"))?;
        let exporter = until("handshake", handshake_ends, tls.first_flight()).await?;
        let leaf = ChannelLeaf::initial(Role::Server, &self.spki, &exporter);
        // Nothing later asks for another exporter value of this connection.
        drop(exporter);
        let attested = self.evidence_and_handshake(&mut tls, leaf, peer, handshake_ends).await?;
        let mut framed = Framed::new(tls);
        let asked = match attested {
            Ok(attestation) => {
                let asked = Asked::new(attestation.batch.clone());
                let attest = attest_body(attestation, self.staple(), &self.settings, self.deadlines.pool_idle);
                if attest.len() > MAX_ATTEST {
                    return Err(End::new("attest", "the ATTEST is larger than its limit"));
                }
                until("attest", handshake_ends + self.deadlines.attest, framed.write(FrameType::Attest, &attest))
                    .await?;
                asked
            }
            Err(error) => {
                let close = unavailable(&error);
                until("handshake", handshake_ends, framed.stream_mut().finish_handshake()).await?;
                framed.close(&close).await;
                return Err(End::new("attest", error));
            }
        };
        // Nothing but evidence has gone out so far; what comes in counts only after the client's Finished.
        until("handshake", handshake_ends.max(Instant::now()), framed.stream_mut().finish_handshake()).await?;
        framed.stream().check_profile(Some(ALPN)).map_err(at("handshake"))?;
        let framed = framed.over(Shaking::into_records).map_err(at("handshake"))?;
        Ok((framed, asked))
    }

    /// Waits for the evidence while the client's Finished is still in the air.
    async fn evidence_and_handshake(
        &self,
        tls: &mut Shaking,
        leaf: ChannelLeaf,
        peer: Peer,
        handshake_ends: Instant,
    ) -> Result<Result<Attestation, AttestError>, End> {
        let evidence = self.attest.attest(leaf, peer.source());
        tokio::pin!(evidence);
        let deadline = Instant::now() + self.deadlines.attest;
        let mut handshake_done = false;
        loop {
            tokio::select! {
                result = &mut evidence => return Ok(result),
                result = timeout_at(handshake_ends, tls.finish_handshake()), if !handshake_done => {
                    result.map_err(|_| End::new("handshake", "deadline"))?.map_err(at("handshake"))?;
                    handshake_done = true;
                }
                () = tokio::time::sleep_until(deadline) => {
                    return Ok(Err(AttestError::Device(attester::DeviceError::Busy { retry_after: Duration::from_secs(1) })));
                }
            }
        }
    }

    /// The endorsements at hand. A client that gets none refuses, and says that none came.
    fn staple(&self) -> Vec<Endorsement> {
        match &*self.standing.borrow() {
            Standing::Endorsed(endorsed) => [endorsed.staple(), &self.issuers.borrow()].concat(),
            Standing::Pending | Standing::Failed(_) => vec![],
        }
    }
}

/// The body of the first ATTEST of a connection. `settings` are the bytes behind the statement's `config`; `endorsements` those of the
/// report, to which the AK's are added.
pub(crate) fn attest_body(
    attestation: Attestation,
    mut endorsements: Vec<Endorsement>,
    settings: &Part,
    pool_idle: Duration,
) -> Vec<u8> {
    let batch = &attestation.batch;
    endorsements.extend_from_slice(batch.ak_certificates());
    Attest {
        purpose: AttestPurpose::Initial,
        seq: 0,
        statement: batch.statement().to_vec(),
        index: attestation.index.into(),
        siblings: attestation.path,
        hardware: batch.hardware().to_vec(),
        tpm: batch.tpm().cloned(),
        endorsements,
        parts: std::iter::once(settings).chain(batch.parts()).map(|part| part.info().clone()).collect(),
        identity: vec![],
        client_evidence_wanted: false,
        features: FEATURES,
        pool_idle_ms: u64::try_from(pool_idle.as_millis()).unwrap_or(u64::MAX),
    }
    .encode()
}

/// What a connection is told that gets no evidence.
fn unavailable(error: &AttestError) -> Close {
    let code = match error {
        AttestError::QueueFull { .. } | AttestError::SourceOverCap { .. } => CloseCode::QueueFull,
        _ => CloseCode::AttestationUnavailable,
    };
    let retry_after = error.retry_after().unwrap_or(Duration::from_secs(1));
    let retry_after_ms = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
    Close { retry_after_ms, ..Close::new(code, "no evidence at the moment") }
}

/// Where a connection ended, and why.
#[derive(Debug)]
pub(crate) struct End {
    stage: &'static str,
    error: Box<dyn std::error::Error + Send + Sync>,
}

impl End {
    pub(crate) fn new(stage: &'static str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        End { stage, error: error.into() }
    }
}

fn at(stage: &'static str) -> impl Fn(io::Error) -> End {
    move |error| End::new(stage, error)
}

pub(crate) async fn within<T>(
    stage: &'static str,
    limit: Duration,
    future: impl Future<Output = io::Result<T>>,
) -> Result<T, End> {
    timeout(limit, future).await.map_err(|_| End::new(stage, "deadline"))?.map_err(at(stage))
}

async fn until<T>(
    stage: &'static str,
    deadline: Instant,
    future: impl Future<Output = io::Result<T>>,
) -> Result<T, End> {
    timeout_at(deadline, future).await.map_err(|_| End::new(stage, "deadline"))?.map_err(at(stage))
}
