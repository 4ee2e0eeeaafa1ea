//! A connection whose guest the policy accepted, and the tunnels that it carries, one after the other.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use proxy_core::framing::{Framed, FramingError};
use proxy_core::net::LocalStream;
use proxy_core::relay::{RelayEnd, RelayLimits, relay};
use proxy_core::tasks::Tasks;
use proxy_core::tls::Records;
use proxy_core::tunnel::{Early, Traffic, TunnelEnd, TunnelStream};
use proxy_core::workers;
use ratls::appraise::AcceptedResult;
use ratls::digest::Sha256Digest;
use ratls::wire::attest::features;
use ratls::wire::control::{Close, CloseCode, Mode, Open};
use ratls::wire::frame::FrameType;
use tokio::time::{Instant, timeout_at};

use crate::dial::Target;
use crate::failed::{tunnel_refused, unreachable};
use crate::lifespan::Lifespan;
use crate::open::{OpenError, Said};
use crate::pool::{Lease, Pool};

/// How long a half-written frame may take to be written out before a CLOSE.
const DRAIN: Duration = Duration::from_secs(1);

/// For the answer to OPEN on a connection that had rested.
const PROBE: Duration = Duration::from_secs(1);

pub(crate) type Tls = Records<LocalStream>;

/// A connection whose guest the policy accepted, between tunnels.
pub struct AttestedStream {
    framed: Framed<Tls>,
    facts: Box<Facts>,
}

/// What is known of an accepted connection.
struct Facts {
    said: Arc<Said>,
    /// The policy that accepted it.
    policy: Option<Sha256Digest>,
    /// Names that the guest's statement claims.
    names: Box<[String]>,
    address: String,
    /// Features that the guest offers.
    offered: u64,
    lifespan: Lifespan,
    /// The thread whose runtime it is on.
    thread: u32,
    /// Of the next tunnel.
    number: u64,
    /// ACCEPTs that came.
    accepts: u64,
}

impl Facts {
    fn claims_name(&self, name: &str) -> bool {
        self.names.iter().any(|claimed| claimed.eq_ignore_ascii_case(name))
    }
}

impl AttestedStream {
    pub(crate) fn new(
        framed: Framed<Tls>,
        accepted: &AcceptedResult,
        offered: u64,
        pool_idle_ms: u64,
        address: String,
        started: Instant,
    ) -> Self {
        let result = accepted.result();
        let good_for = accepted.expires().as_secs().saturating_sub(result.at().as_secs());
        let statement = result.evidence().and_then(|evidence| evidence.statement());
        let facts = Box::new(Facts {
            // From the ClientHello, which was before that time: what the guest let pass meanwhile is not added.
            lifespan: Lifespan::new(
                started,
                Duration::from_secs(u64::try_from(good_for).unwrap_or(0)),
                Duration::from_millis(pool_idle_ms),
            ),
            said: Arc::new(Said::of(result)),
            policy: result.policy_digest(),
            names: statement.map(|statement| statement.names.iter().cloned().collect()).unwrap_or_default(),
            address,
            offered,
            thread: workers::number(),
            number: 0,
            accepts: 0,
        });
        AttestedStream { framed, facts }
    }

    pub fn said(&self) -> &Arc<Said> {
        &self.facts.said
    }

    /// One copy of equal words for all connections.
    pub fn say_with(&mut self, said: &Arc<Said>) {
        if *self.facts.said == **said {
            self.facts.said = said.clone();
        }
    }

    /// The policy that accepted it.
    pub fn policy_digest(&self) -> Option<Sha256Digest> {
        self.facts.policy
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
        self.facts.lifespan.rest(now);
    }

    /// Whether it is on the runtime of this thread.
    pub fn is_here(&self) -> bool {
        self.facts.thread == workers::number()
    }

    /// Moves to the runtime of this thread, which wakes no other for it from now on.
    pub fn move_here(mut self) -> io::Result<Self> {
        if !self.is_here() {
            self.framed = self.framed.over(|records| records.over(LocalStream::move_here))?;
            self.facts.thread = workers::number();
        }
        Ok(self)
    }

    /// Whether another OPEN may go out now (`Lifespan::may_carry_another`).
    pub fn may_carry_another(&self, now: Instant, reuse_for: Duration) -> bool {
        self.facts.offered & features::REUSE != 0 && self.facts.lifespan.may_carry_another(now, reuse_for)
    }

    /// Whether it rested so long that OPEN must go out alone ([`GuestTunnel::probed`]).
    pub(crate) fn needs_probe(&self) -> bool {
        self.facts.lifespan.needs_probe(Instant::now())
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
        let ends = facts.lifespan.ends(target.lifetime()).ok_or_else(|| {
            unreachable(&facts.address, "the evidence of this connection expired before a tunnel was opened")
        })?;
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
            limits: RelayLimits { idle: target.deadlines.idle, ends, accept_by: Some(accept_by) },
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

/// Why a connection that had rested does not carry the tunnel.
pub(crate) enum ProbeFailure {
    /// No answer: the path is probably gone.
    Silent,
    /// The connection ended.
    Ended,
    /// The guest answered; another connection would bring the same.
    Refused(OpenError),
}

impl GuestTunnel {
    /// Counts as demand of `lease`'s pool while it lives.
    pub(crate) fn leased(self, lease: Lease) -> Self {
        GuestTunnel { _lease: Some(lease), ..self }
    }

    pub fn said(&self) -> &Arc<Said> {
        &self.facts.said
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

    /// Waits a short time for the answer to an OPEN that went out alone on a connection which had rested.
    pub(crate) async fn probed(mut self) -> Result<Self, ProbeFailure> {
        match timeout_at(Instant::now() + PROBE, self.stream.wait_accepted()).await {
            Ok(Ok(())) => Ok(self),
            Err(_) => Err(ProbeFailure::Silent),
            Ok(Err(error)) => match error.get_ref().and_then(|inner| inner.downcast_ref::<TunnelEnd>()) {
                Some(TunnelEnd::Refused(_)) => Err(ProbeFailure::Refused(tunnel_refused(&self.facts.address, error))),
                // Nothing followed OPEN, so nothing happened that another connection could repeat.
                _ => Err(ProbeFailure::Ended),
            },
        }
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
    pub(crate) fn carry(self, local: LocalStream) -> impl Future<Output = Carried> + Send {
        // An `async fn` would hold the tunnel twice.
        let GuestTunnel { stream, traffic, limits, facts, home, _lease, tasks, accept_by: _ } = self;
        let mut relayed = Box::pin(relay(local, stream, traffic.clone(), limits));
        async move {
            let _lease = _lease;
            match relayed.as_mut().await {
                RelayEnd::Finished(framed) => {
                    after(framed, facts, &traffic, home, &tasks);
                    Carried::Done
                }
                RelayEnd::NotAccepted { local, early, error } => Carried::Again { local, early, error },
                RelayEnd::Aborted(error) => Carried::Failed(error),
            }
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
    facts.lifespan.guest_ends_after(lifetime);
    let stream = AttestedStream { framed, facts };
    match home {
        Some(pool) => pool.put(stream, tasks),
        None => stream.let_go(tasks),
    }
}
