//! From an address to an attested stream: dial, handshake, evidence, verdict, and only then OPEN.
//!
//! [`AttestedStream`] is the one way to a guest's upstream, and it cannot be made without an [`AcceptedResult`].

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proxy_core::framing::{Frame, Framed, FramingError};
use proxy_core::net::{Addr, LocalStream, connect};
use proxy_core::relay::{RelayEnd, RelayLimits, relay};
use proxy_core::tasks::Tasks;
use proxy_core::tls::{self, HandshakeError, Records};
use proxy_core::tunnel::{Early, Traffic, TunnelEnd, TunnelStream};
use ratls::appraise::{AcceptedResult, AttestationResult, Finding, Severity, appraise};
use ratls::bundle::Bundle;
use ratls::endorsement::TrustAnchors;
use ratls::policy::AppraisalPolicy;
use ratls::time::UnixTime;
use ratls::verify::{Channel, Connection, Part, VerifyError, verify_connection};
use ratls::wire::attest::{Attest, features};
use ratls::wire::control::{Close, CloseCode, Mode, Open, RefuseCode};
use ratls::wire::frame::FrameType;
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::time::{Instant, timeout_at};

use crate::audit::AuditLog;
use crate::evidence::{self, AskError, Known};
use crate::open::OpenError;
use crate::pool::{Lease, Pool};

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

/// How long a half-written frame may take to be written out before a CLOSE.
const DRAIN: Duration = Duration::from_secs(1);

type Tls = Records<LocalStream>;

/// What every connection to one guest has in common.
pub struct Target {
    /// Tried in this order.
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

/// The audit log, and what it calls the guest.
#[derive(Clone)]
pub struct Witness {
    pub log: Arc<AuditLog>,
    pub guest: String,
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
        .map_err(|error| handshake_failed(&address, error))?;
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
            // The age of a connection counts from its ClientHello (decision 6).
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
        let mut last = None;
        for (tried, address) in self.addresses.iter().enumerate() {
            // An equal share of what is left, so that an address which swallows packets does not cost the others.
            let left = deadline.saturating_duration_since(Instant::now());
            let others = u32::try_from(self.addresses.len() - tried).unwrap_or(u32::MAX);
            match connect(address, Instant::now() + left / others).await {
                Ok(stream) => return Ok((stream, address.to_string())),
                Err(error) => last = Some((address.to_string(), error)),
            }
        }
        let (address, reason) = match last {
            Some((address, error)) => (address, chain(&error)),
            None => ("(none)".to_owned(), "no address is configured".to_owned()),
        };
        Err(OpenError::Unreachable { address, reason })
    }

    /// How long a connection may last: no longer than the policy relies on evidence, nor than the setting says.
    fn lifetime(&self) -> Duration {
        self.policy.as_ref().map_or(self.deadlines.lifetime, |policy| policy.max_age().min(self.deadlines.lifetime))
    }

    /// An attested stream, or every reason why not.
    pub async fn attested(&self) -> Result<AttestedStream, OpenError> {
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
            Ok(stream) => match self.write_down(&address, bundle.as_ref(), &stream.result()) {
                Ok(()) => Ok(stream),
                Err(error) => {
                    stream.let_go(&self.tasks);
                    Err(error)
                }
            },
            Err((framed, result)) => {
                let written = self.write_down(&address, bundle.as_ref(), &result);
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
    fn write_down(&self, address: &str, bundle: Option<&Bundle>, result: &AttestationResult) -> Result<(), OpenError> {
        let (Some(witness), Some(bundle), Some(policy)) = (&self.audit, bundle, &self.policy) else { return Ok(()) };
        witness.log.append(&witness.guest, address, policy.digest(), bundle, result).map_err(|error| {
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
    fn judged(self, result: AttestationResult) -> Result<AttestedStream, (Framed<Tls>, AttestationResult)> {
        match result.into_accepted() {
            Ok(accepted) => {
                let attest = Attest::parse(&self.attest.body).ok();
                let (offered, pool_idle_ms) = attest.map_or((0, 0), |attest| (attest.features, attest.pool_idle_ms));
                Ok(AttestedStream {
                    framed: self.framed,
                    facts: Facts::new(accepted, offered, pool_idle_ms, self.address, self.started),
                })
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
    AttestationResult::refusal(Finding::of_verification(error.id(), error), Channel::Exporter, None, at)
}

/// A connection whose guest the policy accepted, between tunnels.
pub struct AttestedStream {
    framed: Framed<Tls>,
    facts: Box<Facts>,
}

/// What is known of an accepted connection.
pub(crate) struct Facts {
    pub(crate) result: Arc<AttestationResult>,
    pub(crate) address: String,
    /// Features that the guest offers.
    offered: u64,
    /// How long the guest waits for OPEN.
    pool_idle: Duration,
    /// The ClientHello.
    started: Instant,
    /// When the policy's max_age, the certificates or the revocation list end.
    expires: Instant,
    /// When the guest ends the connection, as far as it said.
    guest_ends: Option<Instant>,
    /// Since when it carries nothing.
    idle_since: Instant,
    /// Of the next tunnel.
    number: u64,
    /// ACCEPTs that came.
    accepts: u64,
}

/// A guest closes what was idle for too long; an OPEN must not cross that CLOSE on its way.
fn idle_margin(pool_idle: Duration) -> Duration {
    (pool_idle / 8).clamp(Duration::from_millis(100), Duration::from_secs(5))
}

impl Facts {
    fn new(accepted: AcceptedResult, offered: u64, pool_idle_ms: u64, address: String, started: Instant) -> Box<Self> {
        let good_for = accepted.expires().as_secs().saturating_sub(accepted.result().at().as_secs());
        Box::new(Facts {
            expires: Instant::now() + Duration::from_secs(u64::try_from(good_for).unwrap_or(0)),
            result: Arc::new(accepted.into_result()),
            address,
            offered,
            pool_idle: Duration::from_millis(pool_idle_ms),
            started,
            guest_ends: None,
            idle_since: Instant::now(),
            number: 0,
            accepts: 0,
        })
    }

    fn claims_name(&self, name: &str) -> bool {
        let statement = self.result.evidence().and_then(|evidence| evidence.statement());
        statement.is_some_and(|statement| statement.names.iter().any(|claimed| claimed.eq_ignore_ascii_case(name)))
    }
}

impl AttestedStream {
    pub fn result(&self) -> Arc<AttestationResult> {
        self.facts.result.clone()
    }

    pub fn address(&self) -> &str {
        &self.facts.address
    }

    /// Features that the guest offers.
    pub fn features(&self) -> u64 {
        self.facts.offered
    }

    /// True where a tunnel went before: the next one is not the first.
    pub fn is_used(&self) -> bool {
        self.facts.number > 0
    }

    /// Ends the connection without using it.
    pub async fn close(self) {
        self.framed.close(&Close::new(CloseCode::Done, "")).await;
    }

    /// [`AttestedStream::close`] in a task, so that nobody waits for it.
    pub fn let_go(self, tasks: &Tasks) {
        let close = Close { accepted: self.facts.accepts, ..Close::new(CloseCode::Done, "") };
        tasks.spawn("close", self.framed.close_owned(close));
    }

    /// From now on it carries nothing.
    pub fn rest(&mut self, now: Instant) {
        self.facts.idle_since = now;
    }

    /// Whether another OPEN may go out now. What it would carry has a life of its own: a connection takes no tunnel in the
    /// second half of its time, so that none ends much sooner than on a fresh one.
    pub fn may_carry_another(&self, now: Instant, reuse_for: Duration) -> bool {
        let facts = &self.facts;
        let ends = facts.guest_ends.map_or(facts.expires, |ends| ends.min(facts.expires));
        let half = ends.saturating_duration_since(facts.started) / 2;
        let idle_ends = facts.idle_since + facts.pool_idle.saturating_sub(idle_margin(facts.pool_idle));
        facts.offered & features::REUSE != 0 && now < facts.started + reuse_for.min(half) && now < idle_ends
    }

    /// Whether nothing came on it: looks, and does not wait.
    pub fn quiet(&mut self) -> Result<(), FramingError> {
        self.framed.quiet()
    }

    /// Writes OPEN. DATA may follow at once; the guest answers ACCEPT or REFUSE before anything else.
    pub async fn open(self, name: Option<&str>, target: &Target) -> Result<GuestTunnel, OpenError> {
        self.open_from(name, target, None, false).await
    }

    /// [`AttestedStream::open`], and after the tunnel the connection goes to `home`, if the guest uses connections again too.
    /// With `early`, OPEN goes out with the first bytes of the relay.
    pub(crate) async fn open_from(
        mut self,
        name: Option<&str>,
        target: &Target,
        home: Option<Arc<Pool>>,
        early: bool,
    ) -> Result<GuestTunnel, OpenError> {
        let facts = &mut self.facts;
        let open = Open {
            number: facts.number,
            mode: Mode::Framed,
            target: name.filter(|name| facts.claims_name(name)).map(str::to_owned),
            inner_alpn: None,
            features: if home.is_some() { features::REUSE } else { 0 },
            token: target.token.clone(),
        };
        let number = facts.number;
        facts.number += 1;
        let accept_by = Instant::now() + target.deadlines.accept;
        let written = match early {
            true => self.framed.queue(FrameType::Open, &open.encode()),
            false => timeout_at(accept_by, self.framed.write(FrameType::Open, &open.encode()))
                .await
                .map_err(|_| unreachable(&facts.address, "the guest does not read"))?,
        };
        written.map_err(|error| unreachable(&facts.address, error.to_string()))?;
        let traffic = Arc::new(Traffic::default());
        Ok(GuestTunnel {
            stream: TunnelStream::opened(self.framed, number, traffic.clone()).after(facts.accepts),
            traffic,
            limits: RelayLimits {
                idle: target.deadlines.idle,
                ends: facts.expires.min(facts.started + target.lifetime()),
                accept_by: Some(accept_by),
            },
            accept_by,
            facts: self.facts,
            home,
            _lease: None,
            tasks: target.tasks.clone(),
        })
    }
}

/// An open tunnel through an attested connection.
pub struct GuestTunnel {
    pub(crate) stream: TunnelStream<Tls>,
    pub(crate) traffic: Arc<Traffic>,
    limits: RelayLimits,
    accept_by: Instant,
    facts: Box<Facts>,
    /// Where the connection goes afterwards.
    home: Option<Arc<Pool>>,
    /// Counts as long as it lives.
    _lease: Option<Lease>,
    tasks: Tasks,
}

/// How carrying a local connection ended.
pub(crate) enum Carried {
    Done,
    /// The connection to the guest ended before the guest took the tunnel; it may be opened on another one.
    Again {
        local: LocalStream,
        early: Early,
        error: io::Error,
    },
    Failed(io::Error),
}

/// Why a tunnel was not accepted.
pub(crate) struct NotAccepted {
    pub(crate) error: OpenError,
    /// Another connection may succeed, and nothing happened on this one.
    pub(crate) again: bool,
}

impl GuestTunnel {
    /// Counts as demand of `lease`'s pool while it lives.
    pub(crate) fn leased(self, lease: Lease) -> Self {
        GuestTunnel { _lease: Some(lease), ..self }
    }

    pub fn result(&self) -> Arc<AttestationResult> {
        self.facts.result.clone()
    }

    /// Waits until the upstream behind the guest is connected. Where that does not come about the guest is told why the
    /// connection ends, in a task of its own.
    pub async fn accepted(self) -> Result<Self, OpenError> {
        self.taken().await.map_err(|refused| refused.error)
    }

    /// [`GuestTunnel::accepted`], and whether another connection may be tried.
    pub(crate) async fn taken(mut self) -> Result<Self, NotAccepted> {
        let address = &self.facts.address;
        let (code, error, again) = match timeout_at(self.accept_by, self.stream.wait_accepted()).await {
            Ok(Ok(())) => return Ok(self),
            Err(_) => (CloseCode::Deadline, unreachable(address, "the guest did not answer OPEN in time"), false),
            Ok(Err(error)) => {
                let broken = error.kind() == io::ErrorKind::InvalidData;
                let again = self.stream.take_repeatable(&error).is_some();
                (if broken { CloseCode::Protocol } else { CloseCode::Done }, tunnel_refused(address, error), again)
            }
        };
        let tasks = self.tasks.clone();
        let accepted = self.facts.accepts;
        tasks.spawn("close", async move {
            let drained = timeout_at(Instant::now() + DRAIN, self.stream.into_framed_after_drain()).await;
            if let Ok(Ok(framed)) = drained {
                framed.close(&Close { accepted, ..Close::new(code, "") }).await;
            }
        });
        Err(NotAccepted { error, again })
    }

    /// When this tunnel ends at the latest, whatever it carries.
    pub fn ends(&self) -> Instant {
        self.limits.ends
    }

    pub fn traffic(&self) -> Arc<Traffic> {
        self.traffic.clone()
    }

    /// Takes what another connection had sent and lost, and counts where that counted.
    pub(crate) fn take_over(&mut self, early: Early, traffic: Arc<Traffic>) -> io::Result<()> {
        self.traffic = traffic.clone();
        self.stream.repeat(early, traffic)
    }

    /// Carries `local` to its end, over this connection only.
    pub async fn relay(self, local: LocalStream) -> io::Result<()> {
        match self.carry(local).await {
            Carried::Done => Ok(()),
            Carried::Failed(error) => Err(error),
            Carried::Again { local, error, .. } => {
                local.abort();
                Err(error)
            }
        }
    }

    /// Carries `local` to its end, or gives it back.
    pub(crate) async fn carry(self, local: LocalStream) -> Carried {
        match relay(local, self.stream, self.traffic.clone(), self.limits).await {
            RelayEnd::Finished(framed) => {
                after(framed, self.facts, &self.traffic, self.home, &self.tasks);
                Carried::Done
            }
            RelayEnd::NotAccepted { local, early, error } => Carried::Again { local, early, error },
            RelayEnd::Aborted(error) => Carried::Failed(error),
        }
    }

    /// Gives the connection back if the tunnel ended in both directions.
    pub(crate) fn finish(self) {
        if self.stream.is_finished() {
            after(self.stream.into_framed(), self.facts, &self.traffic, self.home, &self.tasks);
        }
    }
}

/// After a tunnel that ended in both directions: back home, or closed.
fn after(framed: Framed<Tls>, mut facts: Box<Facts>, traffic: &Traffic, home: Option<Arc<Pool>>, tasks: &Tasks) {
    facts.accepts += 1;
    let lifetime = Duration::from_secs(traffic.lifetime_secs.load(Ordering::Relaxed));
    facts.guest_ends = Instant::now().checked_add(lifetime);
    let stream = AttestedStream { framed, facts };
    match home {
        Some(pool) => pool.put(stream, tasks),
        None => stream.let_go(tasks),
    }
}

fn tunnel_refused(address: &str, error: io::Error) -> OpenError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<TunnelEnd>()) {
        Some(TunnelEnd::Refused(refuse)) => OpenError::UpstreamRefused {
            code: refuse.code.value(),
            reason: match refuse.code {
                RefuseCode::Other(code) => format!("code {code}: {}", refuse.text.escape_debug()),
                code => format!("{code:?}: {}", refuse.text.escape_debug()),
            },
        },
        Some(TunnelEnd::Closed(close)) => closed(address, close),
        _ => unreachable(address, error.to_string()),
    }
}

fn closed(address: &str, close: &Close) -> OpenError {
    // Anybody may have written it, before any verdict: it must not add a line to a log or write to a terminal.
    let text = close.text.escape_debug();
    let reason = format!("{:?}: {text}", close.code);
    match close.code {
        CloseCode::AttestationUnavailable | CloseCode::QueueFull | CloseCode::GoingAway | CloseCode::Limit => {
            OpenError::Busy {
                address: address.to_owned(),
                reason,
                retry_after: Duration::from_millis(close.retry_after_ms.clamp(100, 60_000)),
            }
        }
        CloseCode::AccessDenied => OpenError::AccessDenied { address: address.to_owned(), reason: text.to_string() },
        _ => unreachable(address, reason),
    }
}

fn evidence_missing(address: &str, error: FramingError) -> OpenError {
    match error {
        FramingError::Closed(close) => closed(address, &close),
        other => unreachable(address, format!("no evidence: {}", chain(&other))),
    }
}

fn handshake_failed(address: &str, error: HandshakeError) -> OpenError {
    unreachable(address, chain(&error))
}

fn unreachable(address: &str, reason: impl Into<String>) -> OpenError {
    OpenError::Unreachable { address: address.to_owned(), reason: reason.into() }
}

/// An error and what is behind it, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratls::wire::control::Refuse;

    #[test]
    fn what_a_peer_says_in_close_and_refuse_adds_no_line_and_no_control_character() {
        let text = "x\r\n2026-11-23 INFO verdict=accepted\u{1b}[2J\u{202e}";
        for code in [CloseCode::AttestationUnavailable, CloseCode::AccessDenied, CloseCode::Abort] {
            let said = closed("192.0.2.1:8443", &Close::new(code, text)).to_string();
            assert!(
                said.contains("verdict=accepted") && !said.contains(['\r', '\n', '\u{1b}', '\u{202e}']),
                "{said:?}"
            );
        }
        for code in [RefuseCode::UnknownTarget, RefuseCode::Other(99)] {
            let end = TunnelEnd::Refused(Refuse { number: 0, code, text: text.into() });
            let said = tunnel_refused("192.0.2.1:8443", io::Error::other(end)).to_string();
            assert!(
                said.contains("verdict=accepted") && !said.contains(['\r', '\n', '\u{1b}', '\u{202e}']),
                "{said:?}"
            );
        }
    }
}
