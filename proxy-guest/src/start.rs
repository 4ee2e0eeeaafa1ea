//! From a checked configuration to an open port: machine, batcher, endorsements, our own verdict on ourselves, listener.
//!
//! The port opens only after a statement of this guest was verified by the same verifier that clients have. What we would
//! refuse from others we do not serve.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use attester::DeviceError;
use attester::batcher::{AttestHandle, Batcher, Observer, Settings, StatementContext};
use attester::endorse::Standing;
use attester::platform::Part;
use proxy_core::duration::Timeout;
use proxy_core::limits::PerSource;
use proxy_core::metrics::{Metrics, Outcome};
use proxy_core::tasks::Tasks;
use proxy_core::tls::{ServerIdentity, provider, server_config};
use ratls::appraise::{AttestationResult, Severity, appraise};
use ratls::binding::statement::Epoch;
use ratls::binding::{KeyLeaf, UpstreamScope};
use ratls::cert::KeyEvidence;
use ratls::endorsement::TrustAnchors;
use ratls::time::UnixTime;
use ratls::verify::verify_key;
use ratls::wire::ALPN;
use ratls::wire::attest::{media, part};
use ratls::wire::cbor::Encoder;
use rustls::ServerConfig;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::asked::PartBudget;
use crate::config::{self, Access, Config, PlainClients, Scope, UpstreamMode};
use crate::identity::GuestKey;
use crate::machine::{Certificates, Machine};
use crate::plain::Plain;
use crate::serve::{Deadlines, Guest, PlainService};

/// The first report and its endorsements, KDS included.
const FIRST_EVIDENCE: Duration = Duration::from_secs(60);
/// Evidence-bearing leaves are renewed this often.
const RENEW: Duration = Duration::from_secs(3600);
const RENEW_AGAIN: Duration = Duration::from_secs(30);

/// The wall clock, read in this one place of the guest.
pub fn now() -> UnixTime {
    UnixTime::from_secs(i64::try_from(unix_ms() / 1000).unwrap_or(i64::MAX))
}

pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Bytes that nobody can guess.
pub fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    provider().secure_random.fill(&mut bytes).map_err(|_| anyhow::anyhow!("the system gives no random numbers"))?;
    Ok(bytes)
}

/// The bytes behind statement key 11, as they are listed and fetched.
pub fn settings_part(settings: &[(&'static str, String)]) -> Result<Part> {
    let bytes = settings_bytes(settings);
    Part::new(part::SETTINGS, media::SETTINGS, bytes).context("the settings are larger than what can be sent")
}

/// Deterministic CBOR of a list of [name, value].
pub fn settings_bytes(settings: &[(&'static str, String)]) -> Vec<u8> {
    let mut e = Encoder::new();
    e.array(settings.len());
    for (name, value) in settings {
        e.array(2).text(name).text(value);
    }
    e.finish()
}

/// A guest that is ready to serve.
pub struct Ready {
    pub guest: Arc<Guest>,
    pub standing: watch::Receiver<Standing>,
    /// Why the device's last request failed, if it did.
    pub device_failure: watch::Receiver<Option<String>>,
    /// Our own verdict on the first statement.
    pub result: AttestationResult,
}

/// Opens the machine that `config` names and starts on it.
pub async fn start(config: &Config, metrics: Arc<Metrics>, tasks: Tasks, background: Tasks) -> Result<Ready> {
    start_on(Machine::open(&config.device)?, config, metrics, tasks, background).await
}

/// Starts the machine's tasks and verifies the first evidence, which must end in its anchors.
pub async fn start_on(
    machine: Machine,
    config: &Config,
    metrics: Arc<Metrics>,
    tasks: Tasks,
    background: Tasks,
) -> Result<Ready> {
    let endorser = machine.endorser(&config.device)?;
    let looking = machine.issuers(&config.device);
    let Machine { platform, anchors, .. } = machine;
    let profile = platform.profile();
    if platform.simulated() {
        tracing::warn!(device = %platform.describe(), %profile, "SIMULATED, PROVES NOTHING");
    } else {
        tracing::info!(device = %platform.describe(), %profile, "report device");
    }
    let key = Arc::new(GuestKey::generate(&config.names, now())?);
    let settings = settings_part(&config.measured_settings())?;
    let limits = &config.limits;
    let batch_settings = Settings {
        max_pending: limits.max_pending_leaves.get(),
        max_per_source: limits.max_pending_leaves_per_source.get(),
    };
    let context = statement_context(config, &key, &settings)?;
    let (failing, device_failure) = watch::channel(None);
    let observer = Arc::new(ReportCounter { metrics: metrics.clone(), failing });
    let (batcher, attest) = Batcher::new(platform, context, batch_settings, observer);
    background.spawn("batcher", async move {
        let Err(error) = batcher.run().await;
        tracing::error!(%error, "the batcher ended; no evidence can be had any more");
    });
    let (sender, mut standing) = watch::channel(Standing::Pending);
    background.spawn("endorsements", endorser.run(attest.latest(), sender));
    let (found, complete) = looking.find().await;
    let (issuers_sender, issuers) = watch::channel(found);
    if !complete {
        background.spawn("issuers", looking.keep_looking(issuers_sender));
    }

    let first = timeout(FIRST_EVIDENCE, key_evidence(&attest, &key, &mut standing, &issuers))
        .await
        .context("no evidence came within a minute")??;
    let identity = key.evidence_identity(&first, now())?;
    let result = judge_ourselves(&identity, &anchors)?;

    let roots = match &config.access {
        Access::Certificate(roots) => Some(roots.clone()),
        Access::Anyone | Access::Token(_) => None,
    };
    let evident = server_config(key.lean_identity(now())?, &[ALPN], true, roots.clone())?;
    let plain = match config.plain_clients {
        PlainClients::Refuse => None,
        PlainClients::Allow => {
            let alpn: Vec<&'static [u8]> = match config.upstream.mode {
                UpstreamMode::Http => vec![b"h2", b"http/1.1"],
                UpstreamMode::Tcp => vec![],
            };
            let make = {
                let alpn = alpn.clone();
                move |identity: ServerIdentity| server_config(identity, &alpn, false, roots.clone())
            };
            let (sender, receiver) = watch::channel(Arc::new(make(identity)?));
            let renewal =
                renew_leaf(attest.clone(), key.clone(), standing.clone(), issuers.clone(), anchors, make, sender);
            background.spawn("evidence leaf", renewal);
            Some(PlainService { config: receiver, alpn, proxy: Plain::new(config, &metrics, tasks.clone()) })
        }
    };
    let guest = Guest {
        evident,
        plain,
        spki: key.spki(),
        attest,
        standing: standing.clone(),
        issuers,
        settings,
        part_budget: PartBudget::new(limits.max_part_bytes_per_source.get()),
        upstream: config.upstream.addr.clone(),
        names: config.names.clone(),
        tokens: match &config.access {
            Access::Token(tokens) => Some(tokens.clone()),
            Access::Anyone | Access::Certificate(_) => None,
        },
        deadlines: deadlines(limits),
        // Not one place, or a source that guesses would keep those of its right tokens.
        wrong_tokens: PerSource::new(limits.max_connections_per_source.get() / 4),
        idle: PerSource::new(limits.max_idle_connections_per_source.get()),
        metrics,
        tasks,
    };
    Ok(Ready { guest: Arc::new(guest), standing, device_failure, result })
}

fn statement_context(config: &Config, key: &GuestKey, settings: &Part) -> Result<StatementContext> {
    Ok(StatementContext {
        spki: key.spki(),
        epoch: Epoch::from_bytes(random()?),
        config: settings.info().digest,
        names: config.names.clone(),
        upstream_scope: match config.upstream.scope {
            Scope::InsideGuest => UpstreamScope::InsideGuest,
            Scope::OutsideGuest => UpstreamScope::OutsideGuest,
        },
        unix_ms: Box::new(unix_ms),
    })
}

fn deadlines(limits: &config::Limits) -> Deadlines {
    Deadlines {
        client_hello: limits.client_hello_timeout.get(),
        handshake: limits.handshake_timeout.get(),
        attest: limits.attest_timeout.get(),
        upstream_connect: limits.upstream_connect_timeout.get(),
        pool_idle: limits.pool_idle_timeout.get(),
        idle: match limits.idle_timeout {
            Timeout::After(period) => Some(period.get()),
            Timeout::Off => None,
        },
        lifetime: limits.lifetime.get(),
    }
}

/// A statement over our key, with its report and endorsements.
pub async fn key_evidence(
    attest: &AttestHandle,
    key: &GuestKey,
    standing: &mut watch::Receiver<Standing>,
    issuers: &watch::Receiver<Certificates>,
) -> Result<KeyEvidence> {
    let attestation = attest.attest_key(KeyLeaf::new(&key.spki())).await?;
    let settled = standing.wait_for(|standing| !matches!(standing, Standing::Pending)).await?.clone();
    let mut endorsements = match settled {
        Standing::Endorsed(endorsed) => endorsed.staple().to_vec(),
        Standing::Failed(error) => return Err(error).context("the reports of this guest cannot be endorsed"),
        Standing::Pending => bail!("the endorser has ended"),
    };
    endorsements.extend_from_slice(attestation.batch.ak_certificates());
    endorsements.extend_from_slice(&issuers.borrow());
    Ok(KeyEvidence {
        statement: attestation.batch.statement().to_vec(),
        hardware: attestation.batch.hardware().to_vec(),
        tpm: attestation.batch.tpm().cloned(),
        endorsements,
    })
}

fn judge_ourselves(identity: &ServerIdentity, anchors: &TrustAnchors) -> Result<AttestationResult> {
    let leaf = identity.chain.first().context("an identity has a certificate")?;
    let evidence = verify_key(leaf, anchors, now()).context("our own verifier refuses our evidence")?;
    let result = appraise(None, evidence);
    for finding in result.findings().iter().filter(|finding| finding.severity() == Severity::Fatal) {
        tracing::warn!(id = finding.id(), seen = finding.seen(), "every EVIDENT client will refuse this guest");
    }
    Ok(result)
}

/// Keeps the evidence-bearing leaf young. A new one is verified before it is shown.
async fn renew_leaf(
    attest: AttestHandle,
    key: Arc<GuestKey>,
    mut standing: watch::Receiver<Standing>,
    issuers: watch::Receiver<Certificates>,
    anchors: TrustAnchors,
    make: impl Fn(ServerIdentity) -> Result<ServerConfig, rustls::Error>,
    sender: watch::Sender<Arc<ServerConfig>>,
) {
    let mut rest = RENEW;
    while !sender.is_closed() {
        tokio::time::sleep(rest).await;
        let renewed = async {
            let evidence = key_evidence(&attest, &key, &mut standing, &issuers).await?;
            let identity = key.evidence_identity(&evidence, now())?;
            let _ = judge_ourselves(&identity, &anchors)?;
            anyhow::Ok(make(identity)?)
        };
        rest = match renewed.await {
            Ok(config) => {
                sender.send_replace(Arc::new(config));
                RENEW
            }
            Err(error) => {
                tracing::error!(error = %format!("{error:#}"), "the evidence-bearing leaf could not be renewed");
                RENEW_AGAIN
            }
        };
    }
}

/// Counts what the batcher does, and remembers whether the device works.
struct ReportCounter {
    metrics: Arc<Metrics>,
    /// Why the last request failed; being busy is no failure.
    failing: watch::Sender<Option<String>>,
}

impl Observer for ReportCounter {
    fn report_answered(&self, leaves: u32, took: Duration, result: Result<(), &DeviceError>) {
        let outcome = match result {
            Ok(()) => Outcome::Ok,
            Err(DeviceError::Busy { .. }) => Outcome::Busy,
            Err(_) => Outcome::Failed,
        };
        self.metrics.hardware_report(outcome, usize::try_from(leaves).unwrap_or(usize::MAX), took);
        match (outcome, result) {
            (Outcome::Failed, Err(error)) => {
                let why = error.to_string();
                self.failing.send_replace(Some(why));
            }
            (Outcome::Ok, _) => {
                self.failing.send_if_modified(|failing| failing.take().is_some());
            }
            _ => {}
        }
    }
}
