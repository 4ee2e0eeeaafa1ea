//! From an address to an attested stream: dial, handshake, evidence, verdict, and only then OPEN.
//!
//! [`AttestedStream`] is the one way to a guest's upstream, and it cannot be made without an `AcceptedResult`.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proxy_core::framing::{Frame, Framed, FramingError};
use proxy_core::net::{Addr, LocalStream, connect};
use proxy_core::tasks::Tasks;
use proxy_core::tls;
use ratls::appraise::{AttestationResult, Finding, Severity, appraise};
use ratls::bundle::Bundle;
use ratls::endorsement::TrustAnchors;
use ratls::policy::AppraisalPolicy;
use ratls::time::UnixTime;
use ratls::verify::{Channel, Connection, Part, VerifyError, verify_connection};
use ratls::wire::attest::Attest;
use ratls::wire::control::{Close, CloseCode};
use ratls::wire::frame::FrameType;
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::time::{Instant, timeout_at};

use crate::attested::{AttestedStream, Tls};
use crate::audit::{AuditLog, KeptPolicy};
use crate::evidence::{self, AskError, Known};
use proxy_core::exit::chain;

use crate::failed::{evidence_missing, unreachable};
use crate::open::OpenError;
use crate::race;

/// How long each step may take.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    pub connect: Duration,
    pub handshake: Duration,
    /// From the handshake's end to a whole ATTEST.
    pub attest: Duration,
    /// From OPEN to ACCEPT.
    pub accept: Duration,
    /// Without a byte in either direction; `None` where silence is normal.
    pub idle: Option<Duration>,
    pub lifetime: Duration,
}

/// What every connection to one guest has in common.
pub struct Target {
    /// Tried in this order, the next before the one before has given up (`race`).
    pub addresses: Vec<Addr>,
    pub server_name: ServerName<'static>,
    pub tls: Arc<ClientConfig>,
    pub policy: Option<Arc<AppraisalPolicy>>,
    pub anchors: Arc<TrustAnchors>,
    /// What earlier connections brought and later ones need not ask for.
    pub known: Arc<Known>,
    pub token: Option<Vec<u8>>,
    pub deadlines: Deadlines,
    /// Where a refused connection is closed, so that nobody waits for it.
    pub tasks: Tasks,
    /// Where each verdict is written down before anything follows from it.
    pub audit: Option<Witness>,
}

/// The audit log, what it calls the guest, and the policy that it has of it.
#[derive(Clone)]
pub struct Witness {
    pub log: Arc<AuditLog>,
    pub guest: String,
    pub policy: KeptPolicy,
}

/// A connection that showed its evidence, whatever that is worth.
pub struct Shown {
    framed: Framed<Tls>,
    started: Instant,
    address: String,
    leaf_certificate: CertificateDer<'static>,
    bind: ratls::binding::Bind32,
    attest: Frame,
    received: UnixTime,
    /// What was asked for beside the ATTEST, for a bundle.
    parts: Vec<Part>,
    proven: bool,
}

/// The only place where a clock is read for verification.
pub fn now() -> UnixTime {
    let secs = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX),
    };
    UnixTime::from_secs(secs)
}

impl Target {
    /// Dials, shakes hands and reads ATTEST.
    pub async fn show(&self) -> Result<Shown, OpenError> {
        let started = Instant::now();
        let (stream, address) = self.dial(started + self.deadlines.connect).await?;
        let handshake_started = Instant::now();
        let handshake = timeout_at(
            handshake_started + self.deadlines.handshake,
            tls::connect(self.tls.clone(), self.server_name.clone(), stream),
        )
        .await
        .map_err(|_| unreachable(&address, "the TLS handshake took too long"))?
        .map_err(|error| unreachable(&address, chain(&error)))?;
        let mut framed = Framed::new(handshake.tls);
        let attest = match timeout_at(Instant::now() + self.deadlines.attest, framed.read()).await {
            Err(_) => return Err(unreachable(&address, "no evidence came in time")),
            Ok(Ok(frame)) if frame.kind == FrameType::Attest => frame,
            Ok(other) => {
                let error = match other {
                    Ok(frame) => FramingError::Unexpected { seen: frame.kind, wanted: "ATTEST" },
                    Err(error) => error,
                };
                if let Some(close) = error.close() {
                    self.tasks.spawn("close", framed.close_owned(close));
                }
                return Err(evidence_missing(&address, error));
            }
        };
        Ok(Shown {
            framed,
            // The age of a connection counts from its ClientHello (docs/protocol.md, "The client's side").
            started: handshake_started,
            address,
            leaf_certificate: handshake.leaf_certificate,
            bind: handshake.bind,
            attest,
            received: now(),
            parts: vec![],
            proven: false,
        })
    }

    async fn dial(&self, deadline: Instant) -> Result<(LocalStream, String), OpenError> {
        let dialled = race::first(&self.addresses, |address| async move { connect(address, deadline).await }).await;
        match dialled {
            Ok((stream, address)) => Ok((stream, address.to_string())),
            Err(failed) => {
                let (address, reason) = match failed.into_iter().next() {
                    Some((address, error)) => (address.to_string(), chain(&error)),
                    None => ("(none)".to_owned(), "no address is configured".to_owned()),
                };
                Err(OpenError::Unreachable { address, reason })
            }
        }
    }

    /// How long a connection may last: no longer than the policy relies on evidence, nor than the setting says.
    pub(crate) fn lifetime(&self) -> Duration {
        self.policy.as_ref().map_or(self.deadlines.lifetime, |policy| policy.max_age().min(self.deadlines.lifetime))
    }

    /// An attested stream, or every reason why not.
    pub async fn attested(&self) -> Result<AttestedStream, OpenError> {
        self.attested_with_result().await.map(|(stream, _)| stream)
    }

    /// [`Target::attested`], and what was found out.
    pub async fn attested_with_result(&self) -> Result<(AttestedStream, Arc<AttestationResult>), OpenError> {
        let mut shown = self.show().await?;
        let address = shown.address.clone();
        let result = match shown.result(self).await {
            Ok(result) => result,
            Err(error) => {
                if let Some(close) = error.close() {
                    self.tasks.spawn("close", shown.framed.close_owned(close));
                }
                return Err(evidence_missing(&address, error));
            }
        };
        let bundle = self.audit.is_some().then(|| shown.bundle());
        match shown.judged(result) {
            Ok((stream, result)) => match self.write_down(&address, bundle.as_ref(), &result).await {
                Ok(()) => Ok((stream, Arc::new(result))),
                Err(error) => {
                    stream.let_go(&self.tasks);
                    Err(error)
                }
            },
            Err((framed, result)) => {
                let written = self.write_down(&address, bundle.as_ref(), &result).await;
                let ids: Vec<&str> =
                    result.findings().iter().filter(|f| f.severity() == Severity::Fatal).map(|f| f.id()).collect();
                let close = Close::new(CloseCode::EvidenceRefused, ids.join(" "));
                self.tasks.spawn("close", framed.close_owned(close));
                written?;
                Err(OpenError::Refused { address, result: Arc::new(result) })
            }
        }
    }

    /// Where an audit log is kept nothing follows from a verdict that is not in it.
    async fn write_down(
        &self,
        address: &str,
        bundle: Option<&Bundle>,
        result: &AttestationResult,
    ) -> Result<(), OpenError> {
        let (Some(witness), Some(bundle)) = (&self.audit, bundle) else { return Ok(()) };
        witness.log.append(&witness.guest, address, witness.policy, bundle, result).await.map_err(|error| {
            let reason = format!("the verdict cannot be written down: {}", chain(&error));
            tracing::error!(guest = %witness.guest, "{reason}");
            OpenError::Limit { reason }
        })
    }
}

impl Shown {
    fn facts(&self) -> Connection<'_> {
        Connection { leaf_certificate: &self.leaf_certificate, bind: self.bind, attest: &self.attest.body }
    }

    /// The verdict on this connection, after the guest was asked for what it needs beside the ATTEST. Without a policy nothing is
    /// accepted. An error is the connection's; what the guest did wrong is a verdict.
    pub async fn result(&mut self, target: &Target) -> Result<AttestationResult, FramingError> {
        let (policy, anchors) = (target.policy.as_deref(), &*target.anchors);
        let evidence = match verify_connection(&self.facts(), anchors, self.received) {
            Ok((evidence, _)) => evidence,
            Err(error) => return Ok(refusal(&error, self.received)),
        };
        let by = Instant::now() + target.deadlines.attest;
        let asked = timeout_at(by, evidence::complete(&mut self.framed, evidence, policy, anchors, &target.known));
        match asked.await {
            Ok(Ok(complete)) => {
                (self.parts, self.proven) = (complete.parts, complete.proven);
                Ok(appraise(policy, complete.evidence))
            }
            Ok(Err(AskError::Framing(error))) => Err(error),
            Ok(Err(AskError::Guest(finding))) => {
                Ok(AttestationResult::refusal(finding, Channel::Exporter, None, self.received))
            }
            Err(_) => {
                Err(io::Error::new(io::ErrorKind::TimedOut, "the guest did not answer WANT or CRED in time").into())
            }
        }
    }

    /// Turns into a stream that may carry application bytes, if that was accepted.
    #[allow(clippy::result_large_err)]
    fn judged(
        self,
        result: AttestationResult,
    ) -> Result<(AttestedStream, AttestationResult), (Framed<Tls>, AttestationResult)> {
        match result.into_accepted() {
            Ok(accepted) => {
                let attest = Attest::parse(&self.attest.body).ok();
                let (offered, pool_idle_ms) = attest.map_or((0, 0), |attest| (attest.features, attest.pool_idle_ms));
                let stream =
                    AttestedStream::new(self.framed, &accepted, offered, pool_idle_ms, self.address, self.started);
                Ok((stream, accepted.into_result()))
            }
            Err(result) => Err((self.framed, *result)),
        }
    }

    /// What the connection showed, for a file.
    pub fn bundle(&self) -> Bundle {
        Bundle {
            attest: self.attest.body.to_vec(),
            parts: self.parts.iter().map(|part| (*part.digest(), part.bytes().to_vec())).collect(),
            leaf_certificate: self.leaf_certificate.to_vec(),
            bind: self.bind,
            received: self.received,
            witnessed_ak: self.proven,
        }
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// Ends the connection without using it.
    pub async fn close(self) {
        self.framed.close(&Close::new(CloseCode::Done, "")).await;
    }
}

/// A refusal of the verify stage, as a result with its finding.
pub fn refusal(error: &VerifyError, at: UnixTime) -> AttestationResult {
    AttestationResult::refusal(Finding::of_verification(error.check(), error), Channel::Exporter, None, at)
}
