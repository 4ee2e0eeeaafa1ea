//! One report for everything that waits: the leaves of live connections become a tree, its root a statement, and the statement's
//! binder what one request of the platform carries (docs/protocol.md, "Binding"): one report, and one quote where there is a
//! TPM, whatever the size of the batch.
//!
//! Where the device is idle and its pace allows, a request starts at once with all that is pending; else everything waits for the
//! running request. There is no timer that collects. So nobody waits longer than twice the larger of device time and minimum
//! interval; an hourly key leaf may add one request to that. A device that is busy for a short while is asked again for the same leaves
//! and what came meanwhile; one that wants a long rest, or is busy again and again, is reported to those who wait.
//!
//! Assumes that a [`ChannelLeaf`] is what `ratls` says: made from the exporter secret of a connection of this process. There is no way
//! to have other bytes signed. Does not verify the report; the guest does that with its own verifier before it serves it.

mod pacer;
mod pending;
mod worker;

use crate::device::DeviceError;
use crate::platform::{Activator, Boot, Gathered, Part, Platform};
use pacer::Pacer;
use pending::{Queue, Work};
use ratls::binding::statement::Epoch;
use ratls::binding::{ChannelLeaf, KeyLeaf, LeafHash, Purpose, Sibling, SpkiDigest, Tree, UpstreamScope};
use ratls::digest::Sha256Digest;
use ratls::wire::attest::{Endorsement, HardwareFormat, TpmEvidence};
use std::convert::Infallible;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use worker::{Done, Job, Worker};

/// Most leaves that may wait for a request (docs/protocol.md, "Limits").
pub const MAX_PENDING: usize = 16_384;
/// However long a device asks to be left alone, it is asked again after this.
const LONGEST_HOLD: Duration = Duration::from_secs(10);
/// What a refused caller is told is never less: coming back at once would only be refused again.
const SHORTEST_RETRY: Duration = Duration::from_millis(100);

/// The caps on what strangers can make wait.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// [`MAX_PENDING`], unless a test wants fewer.
    pub max_pending: usize,
    /// Leaves of one source (an IPv4 address or an IPv6 /64) that may wait at a time.
    pub max_per_source: usize,
}

/// What every statement of this process says; the profile, the AK and the event log are the platform's.
pub struct StatementContext {
    /// Of the TLS key that the guest shows on attested connections.
    pub spki: SpkiDigest,
    /// Random, new per process start.
    pub epoch: Epoch,
    /// SHA-256 over the named settings (docs/protocol.md, "config").
    pub config: Sha256Digest,
    /// At most eight.
    pub names: Vec<String>,
    pub upstream_scope: UpstreamScope,
    /// The guest's clock in Unix milliseconds: a hint in the statement, nothing rests on it.
    pub unix_ms: Box<dyn Fn() -> u64 + Send>,
}

/// What one request of the platform brought. Shared by all connections of the batch.
pub struct BatchEvidence {
    statement: Vec<u8>,
    gathered: Gathered,
    boot: Arc<Boot>,
    tree: Tree,
}

impl BatchEvidence {
    /// The statement, exactly as hashed into the binder and to be sent.
    pub fn statement(&self) -> &[u8] {
        &self.statement
    }
    /// The SNP report, as signed.
    pub fn report(&self) -> &[u8] {
        &self.gathered.report
    }
    /// The certificate table that came with it; untrusted, and empty where the host gave none.
    pub fn certificates(&self) -> &[u8] {
        &self.gathered.certificates
    }
    /// What goes into ATTEST as hardware evidence; the report stands in it.
    pub fn hardware(&self) -> &[(HardwareFormat, Vec<u8>)] {
        &self.gathered.hardware
    }
    /// The TPM's quote, where there is one.
    pub fn tpm(&self) -> Option<&TpmEvidence> {
        self.gathered.tpm.as_ref()
    }
    /// The AK's certificate, where the platform keeps one.
    pub fn ak_certificates(&self) -> &[Endorsement] {
        self.boot.ak_certificate.as_slice()
    }
    /// What WANT may ask for, beside the settings.
    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        self.boot.event_log.iter().chain(&self.gathered.parts)
    }
    /// Leaves in the tree.
    pub fn n(&self) -> u32 {
        self.tree.n()
    }
}

impl fmt::Debug for BatchEvidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BatchEvidence(n = {})", self.n())
    }
}

/// One leaf's share in a batch: what ATTEST carries.
#[derive(Clone, Debug)]
pub struct Attestation {
    pub batch: Arc<BatchEvidence>,
    pub index: u32,
    pub path: Vec<Sibling>,
}

/// Why there is no evidence for a leaf. The connection gets CLOSE; nothing is served on older evidence instead.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttestError {
    #[error("too many connections wait for evidence; come back in {} ms", retry_after.as_millis())]
    QueueFull { retry_after: Duration },
    #[error("{cap} connections of this source wait for evidence already")]
    SourceOverCap { cap: usize },
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error("the batcher has ended")]
    Closed,
}

impl AttestError {
    /// When trying again may help.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            AttestError::QueueFull { retry_after } | AttestError::Device(DeviceError::Busy { retry_after }) => {
                Some(*retry_after)
            }
            _ => None,
        }
    }
}

/// What the batcher tells whoever counts. Called on the runtime; must not block.
pub trait Observer: Send + Sync + 'static {
    /// A request starts, for so many leaves.
    fn report_asked(&self, _leaves: u32) {}
    /// It ended; `took` is the device's time.
    fn report_answered(&self, _leaves: u32, _took: Duration, _result: Result<(), &DeviceError>) {}
    /// A leaf was turned away before any request.
    fn refused(&self, _error: &AttestError) {}
}

/// Counts nothing.
impl Observer for () {}

/// The door to the batcher; clones lead to the same one.
#[derive(Clone)]
pub struct AttestHandle {
    queue: Arc<Queue>,
    observer: Arc<dyn Observer>,
    latest: watch::Receiver<Option<Arc<BatchEvidence>>>,
    activator: Option<Activator>,
}

impl AttestHandle {
    /// Evidence for a live connection. Give it up by dropping the future; nobody else is touched by that.
    pub async fn attest(&self, leaf: ChannelLeaf, source: IpAddr) -> Result<Attestation, AttestError> {
        let mut ticket = self.queue.enter(leaf, source).inspect_err(|error| self.observer.refused(error))?;
        attestation((&mut ticket.answer).await)
    }

    /// Evidence for the TLS key itself, for the certificate that ordinary clients see and for the check at start.
    pub async fn attest_key(&self, leaf: KeyLeaf) -> Result<Attestation, AttestError> {
        let answer = self.queue.enter_key(leaf).inspect_err(|error| self.observer.refused(error))?;
        attestation(answer.await)
    }

    /// The evidence of the last request that succeeded, for whoever keeps its endorsements at hand.
    pub fn latest(&self) -> watch::Receiver<Option<Arc<BatchEvidence>>> {
        self.latest.clone()
    }

    /// Who answers a CRED; `None` where the platform has no such question.
    pub fn activator(&self) -> Option<&Activator> {
        self.activator.as_ref()
    }
}

fn attestation(outcome: Result<pending::Outcome, oneshot::error::RecvError>) -> Result<Attestation, AttestError> {
    let (batch, index) = outcome.map_err(|_| AttestError::Closed)??;
    let path = batch.tree.path(index).expect("the batch was built with this leaf");
    Ok(Attestation { batch, index, path })
}

/// The device's thread has ended, which it does only by a panic. No evidence can be had any more; the process should end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the thread of the report device has ended")]
pub struct DeviceThreadLost;

/// The loop between the queue and the device's thread.
pub struct Batcher {
    queue: Arc<Queue>,
    observer: Arc<dyn Observer>,
    latest: watch::Sender<Option<Arc<BatchEvidence>>>,
    pacer: Pacer,
    worker: Worker,
}

impl Batcher {
    /// The handle answers as soon as [`Batcher::run`] is polled.
    pub fn new(
        platform: Box<dyn Platform>,
        context: StatementContext,
        settings: Settings,
        observer: Arc<dyn Observer>,
    ) -> (Batcher, AttestHandle) {
        let pacer = Pacer::new(platform.pace());
        let queue = Arc::new(Queue::new(settings, pacer.min_interval().max(SHORTEST_RETRY)));
        let (latest, receiver) = watch::channel(None);
        let handle = AttestHandle {
            queue: queue.clone(),
            observer: observer.clone(),
            latest: receiver,
            activator: platform.activator(),
        };
        let worker = Worker { platform, context, counter: 0 };
        (Batcher { queue, observer, latest, pacer, worker }, handle)
    }

    /// Runs until it is dropped; then everybody who waits learns [`AttestError::Closed`], and the device's thread ends with the request
    /// that it is in.
    pub async fn run(self) -> Result<Infallible, DeviceThreadLost> {
        let Batcher { queue, observer, latest, mut pacer, worker } = self;
        let _closes = CloseOnDrop(queue.clone());
        // Dropped after the channel, whose end is what ends the thread.
        let mut thread = EndOnDrop(None);
        let (jobs, inbox) = mpsc::sync_channel(1);
        let spawned = std::thread::Builder::new().name("report-device".into()).spawn(move || worker.run(inbox));
        thread.0 = Some(spawned.map_err(|_| DeviceThreadLost)?);
        loop {
            queue.wait_for_work().await;
            tokio::time::sleep_until(pacer.earliest(Instant::now())).await;
            let Some(work) = queue.take() else { continue };
            let purpose = match &work {
                Work::Batch(_) => Purpose::Batch,
                Work::Key(_) => Purpose::Key,
            };
            let leaves = work.leaves();
            let n = leaves.len();
            let done = ask(&jobs, observer.as_ref(), purpose, leaves).await?;
            // A device that throttles counts from when it was asked, which on a loaded machine is later than the hand-over.
            pacer.start(done.asked);
            queue.set_retry_after(done.took.max(pacer.min_interval()).max(SHORTEST_RETRY));
            match done.result {
                Ok(batch) => {
                    latest.send_replace(Some(batch.clone()));
                    work.answer(|index| Ok((batch.clone(), index)));
                }
                Err(error) => {
                    tracing::warn!(%error, leaves = n, "no report");
                    let mut told = Some(work);
                    if let DeviceError::Busy { retry_after } = error {
                        let now = Instant::now();
                        let until = now + retry_after.min(LONGEST_HOLD);
                        pacer.hold(until);
                        told = told.and_then(|work| queue.put_back(work, now, until));
                        queue.hold(now, until);
                    }
                    if let Some(work) = told {
                        work.answer(|_| Err(error.clone()));
                    }
                }
            }
        }
    }
}

async fn ask(
    jobs: &mpsc::SyncSender<Job>,
    observer: &dyn Observer,
    purpose: Purpose,
    leaves: Vec<LeafHash>,
) -> Result<Done, DeviceThreadLost> {
    let n = u32::try_from(leaves.len()).expect("a request has at most MAX_LEAVES leaves");
    observer.report_asked(n);
    let (reply, answer) = oneshot::channel();
    // Never blocks: the thread has answered the job before, so the place in the channel is free.
    jobs.try_send(Job { purpose, leaves, reply }).map_err(|_| DeviceThreadLost)?;
    let done = answer.await.map_err(|_| DeviceThreadLost)?;
    observer.report_answered(n, done.took, done.result.as_ref().map(|_| ()));
    Ok(done)
}

/// The thread gives the platform up as it ends: it removes an entry of its own from configfs, for one. A program that ends waits for
/// that, unless a request is running that takes longer.
struct EndOnDrop(Option<std::thread::JoinHandle<()>>);

const LONGEST_FAREWELL: Duration = Duration::from_secs(1);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        let until = std::time::Instant::now() + LONGEST_FAREWELL;
        while self.0.as_ref().is_some_and(|thread| !thread.is_finished()) && std::time::Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

struct CloseOnDrop(Arc<Queue>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The batcher takes leaves of live connections:
///
/// ```no_run
/// async fn f(handle: attester::AttestHandle, secret: ratls::binding::ExporterSecret, spki: ratls::binding::SpkiDigest) {
///     let leaf = ratls::binding::ChannelLeaf::initial(ratls::binding::Role::Server, &spki, &secret);
///     let _ = handle.attest(leaf, [127, 0, 0, 1].into()).await;
/// }
/// ```
///
/// and neither 32 bytes that somebody chose,
///
/// ```compile_fail,E0308
/// async fn f(handle: attester::AttestHandle) {
///     let _ = handle.attest([0; 32], [127, 0, 0, 1].into()).await;
/// }
/// ```
///
/// nor a hash that is one in name only.
///
/// ```compile_fail,E0308
/// async fn f(handle: attester::AttestHandle) {
///     let _ = handle.attest(ratls::binding::LeafHash::from_bytes([0; 32]), [127, 0, 0, 1].into()).await;
/// }
/// ```
#[cfg(doctest)]
pub mod proto_m6_no_call_inserts_a_hash_that_somebody_chose {}
