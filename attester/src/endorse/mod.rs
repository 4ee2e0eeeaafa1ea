//! Keeps the endorsements of our own reports at hand, so that a client needs no network but the tunnel.
//!
//! Sources, in this order: the operator's files, the certificate table of the host, Azure's instance metadata, AMD's key service. All are untrusted alike; a set is
//! published only after our own verifier accepted a report of ours with it, at the present time. What we would refuse from others we do
//! not serve.
//!
//! A revocation list is served until its own nextUpdate and replaced long before. Where none can be had the staple goes without: the
//! client's policy says whether that will do. A list that revokes our own issuer ends the serving.

mod needs;

use crate::batcher::BatchEvidence;
use crate::imds::Imds;
use crate::kds::{Kds, KdsError, Resource};
use needs::{KeyAndTcb, kind, needed, needed_for, products};
use ratls::endorsement::table::{CertificateTable, TableItem};
use ratls::endorsement::{ChainError, CrlStatus, MAX_CRL_BYTES, TrustAnchors, VekKind};
use ratls::evidence::snp::{Report, ReportError};
use ratls::findings::EndorsementCheck;
use ratls::time::UnixTime;
use ratls::verify::{ReportRefusal, VerifiedReport, verify_report};
use ratls::wire::attest::{Endorsement, media};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Certificates that an operator may name; with those of host and AMD the pairs to try stay few.
pub const MAX_FILES: usize = 8;
/// A list younger than this is not fetched again, unless it ends soon.
const LIST_AGE: Duration = Duration::from_secs(6 * 3600);
/// A list that ends within this is fetched again whatever its age.
const LIST_ENDS_SOON: Duration = Duration::from_secs(24 * 3600);
/// The longest between two looks at what is served.
const LONGEST_REST: Duration = Duration::from_secs(12 * 3600);
/// The shortest while something is missing.
const SHORTEST_REST: Duration = Duration::from_secs(1);
/// The shortest while all is there but ends soon, and the usual one while something of the host or the operator is waited for.
const USUAL_REST: Duration = Duration::from_secs(60);

/// What stands behind the reports at the moment.
#[derive(Clone, Debug)]
pub enum Standing {
    /// No report was made yet, or its endorsements are still looked for.
    Pending,
    Endorsed(Arc<Endorsed>),
    /// Nothing that our own verifier accepts; looked for again.
    Failed(Arc<EndorseError>),
}

/// A set that our own verifier accepted.
#[derive(Debug)]
#[must_use]
pub struct Endorsed {
    staple: Vec<Endorsement>,
    report: VerifiedReport,
}

impl Endorsed {
    fn new(chain: &Chain, list: Option<List>) -> Self {
        let item =
            |media_type: &str, bytes: &[u8]| Endorsement { media_type: media_type.into(), bytes: bytes.to_vec() };
        let mut staple = vec![item(media::CERTIFICATE, &chain.leaf), item(media::CERTIFICATE, &chain.issuer)];
        let mut report = chain.report.clone();
        if let Some(list) = list {
            staple.push(item(media::CRL, &list.bytes));
            report = list.report;
        }
        Endorsed { staple, report }
    }

    /// For ATTEST key 8: the leaf, its issuer, and a revocation list where there is one.
    pub fn staple(&self) -> &[Endorsement] {
        &self.staple
    }
    /// The report of ours that it was tried on.
    pub fn report(&self) -> &VerifiedReport {
        &self.report
    }
}

/// Why there is no set that our own verifier accepts.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EndorseError {
    #[error("our own report is malformed")]
    Report(#[from] ReportError),
    #[error("our own verifier refuses our report")]
    Refused(#[from] ReportRefusal),
    #[error("the report's key cannot be vouched for")]
    Kds(#[from] KdsError),
    #[error(
        "the host signs with a VLEK and gave no certificate for it, and AMD gives such certificates to the host alone; use a kernel with \
         configfs-tsm (6.7 or later), or name the certificate's file in the configuration"
    )]
    NoVlek,
}

/// Finds endorsements. One per guest.
pub struct Endorser {
    kds: Option<Kds>,
    anchors: TrustAnchors,
    files: Vec<Vec<u8>>,
    clock: Box<dyn Fn() -> UnixTime + Send + Sync>,
    imds: Option<Imds>,
}

/// A leaf and its issuer that verified.
struct Chain {
    leaf: Vec<u8>,
    issuer: Vec<u8>,
    report: VerifiedReport,
}

impl Endorser {
    /// `kds` is `None` where the guest must not ask AMD. `files` are certificates in DER, in any order, of which the first
    /// [`MAX_FILES`] are looked at.
    pub fn new(
        kds: Option<Kds>,
        anchors: TrustAnchors,
        mut files: Vec<Vec<u8>>,
        clock: impl Fn() -> UnixTime + Send + Sync + 'static,
    ) -> Self {
        files.truncate(MAX_FILES);
        Endorser { kds, anchors, files, clock: Box::new(clock), imds: None }
    }

    /// On Azure, whose paravisor gives no certificate table.
    pub fn with_imds(self, imds: Imds) -> Self {
        Endorser { imds: Some(imds), ..self }
    }

    /// One report of ours, endorsed; `table` is the certificate table that came with it. May take as long as AMD's service takes.
    pub async fn endorse(&self, report: &[u8], table: &[u8]) -> Result<Endorsed, EndorseError> {
        let table = parse_table(table);
        let chain = self.chain(report, &table).await?;
        let list = self.list(&chain, &table).await?;
        Ok(Endorsed::new(&chain, list))
    }

    /// Watches the evidence and keeps `standing` true until the batcher is gone. One round per change of key or TCB, and when something
    /// ends or can be asked for again.
    pub async fn run(
        self,
        mut evidence: watch::Receiver<Option<Arc<BatchEvidence>>>,
        standing: watch::Sender<Standing>,
    ) {
        loop {
            let Some(batch) = evidence.borrow_and_update().clone() else {
                if evidence.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let rest = self.round(batch.report(), batch.certificates(), &standing).await;
            let until = Instant::now() + rest;
            let key = KeyAndTcb::of(batch.report());
            let other_key = evidence.wait_for(|batch| batch.as_ref().is_some_and(|b| KeyAndTcb::of(b.report()) != key));
            match tokio::time::timeout_at(until, other_key).await {
                Ok(Err(_)) => return,
                Ok(Ok(_)) => tracing::info!("the reports' key or TCB changed"),
                Err(_) => {}
            }
        }
    }

    /// Publishes what it finds and returns how long that may stand.
    async fn round(&self, report: &[u8], table: &[u8], standing: &watch::Sender<Standing>) -> Duration {
        let table = parse_table(table);
        let outcome = async {
            let chain = self.chain(report, &table).await?;
            // Served at once with the list that is at hand; a better one is a request away, which may take long.
            let at_hand = self.stored_list(&chain, &table).await?;
            standing.send_replace(Standing::Endorsed(Arc::new(Endorsed::new(&chain, at_hand))));
            let list = self.list(&chain, &table).await?;
            Ok::<_, EndorseError>((chain, list))
        };
        match outcome.await {
            Ok((chain, list)) => {
                let rest = self.rest(&chain, list.as_ref());
                standing.send_replace(Standing::Endorsed(Arc::new(Endorsed::new(&chain, list))));
                rest
            }
            Err(error) => {
                tracing::error!(error = %Causes(&error), "our reports cannot be endorsed");
                standing.send_replace(Standing::Failed(Arc::new(error)));
                let pause = match (&self.kds, Report::parse(report)) {
                    (Some(kds), Ok(report)) => needed(&report).map(|resource| kds.pause(&resource)).max(),
                    _ => None,
                };
                // Where AMD's service is not what is missing, only the host or the operator can change something.
                pause.filter(|pause| !pause.is_zero()).unwrap_or(USUAL_REST).clamp(SHORTEST_REST, LONGEST_REST)
            }
        }
    }

    /// The leaf and its issuer: from files and host if these are enough, else with AMD's help.
    async fn chain(&self, report: &[u8], table: &CertificateTable<'_>) -> Result<Chain, EndorseError> {
        let parsed = Report::parse(report)?;
        match verify_report(report, &[], &[], &self.anchors, (self.clock)()) {
            Err(ReportRefusal::NoEndorsement) | Ok(_) => {}
            // Masked, unsigned and the like: no certificate helps.
            Err(refused) => return Err(refused.into()),
        }
        let mut pool = self.files.clone();
        pool.extend(table.certificates().map(<[u8]>::to_vec));
        let mut refused = match self.pair(report, &pool) {
            Ok(chain) => return Ok(chain),
            Err(refused) => EndorseError::Refused(refused),
        };
        if let Some(imds) = &self.imds {
            match imds.certificates().await {
                Ok(certificates) => pool.extend(certificates),
                Err(error) => tracing::warn!(%error, "no certificates by Azure's instance metadata"),
            }
            refused = match self.pair(report, &pool) {
                Ok(chain) => return Ok(chain),
                Err(refused) => EndorseError::Refused(refused),
            };
        }
        let Some(kds) = &self.kds else { return Err(told(refused, &parsed)) };
        for product in products(&parsed) {
            let mut asked = Vec::new();
            for resource in needed_for(&parsed, product) {
                match kds.fetch(&resource, None).await {
                    Ok(fetched) => {
                        // The service looked whether it is PEM; a VCEK is DER and passes as it is.
                        pool.extend(ratls::endorsement::pem::certificates(&fetched.bytes).unwrap_or_default());
                        asked.push(resource);
                    }
                    Err(error) => {
                        refused = error.into();
                        break;
                    }
                }
                match self.pair(report, &pool) {
                    Ok(chain) => return Ok(chain),
                    Err(error) => refused = error.into(),
                }
            }
            // Everything came and it is no good. A wrong clock is no reason to fetch again, nor is a leaf that only the host has.
            // A VLEK is the host's to give; nothing that AMD sent is to blame for its absence.
            let of_the_host = |cause: &ReportRefusal| {
                matches!(cause, ReportRefusal::NoEndorsement)
                    && parsed.signing_key() == ratls::evidence::snp::SigningKey::Vlek
            };
            let of_the_clock =
                |cause: &ReportRefusal| matches!(cause, ReportRefusal::Chain(ChainError::Validity { .. }));
            let fetched_in_vain = |cause: &ReportRefusal| !of_the_clock(cause) && !of_the_host(cause);
            if matches!(&refused, EndorseError::Refused(cause) if fetched_in_vain(cause)) {
                for resource in &asked {
                    kds.reject(resource).await;
                }
            }
        }
        Err(told(refused, &parsed))
    }

    /// The first two of these certificates under which the report verifies. Pair by pair, so that one bad certificate, of whomever, does
    /// not spoil the others.
    fn pair(&self, report: &[u8], pool: &[Vec<u8>]) -> Result<Chain, ReportRefusal> {
        let now = (self.clock)();
        let mut refused = ReportRefusal::NoEndorsement;
        // A pair that does not belong together says less than one that does.
        let mut tell = |error: ReportRefusal| {
            let unpaired = |refusal: &ReportRefusal| refusal.check() == EndorsementCheck::Chain.into();
            if !unpaired(&error) || unpaired(&refused) || matches!(refused, ReportRefusal::NoEndorsement) {
                refused = error;
            }
        };
        for (at, leaf) in pool.iter().enumerate() {
            match verify_report(report, &[leaf], &[], &self.anchors, now) {
                // An issuer, not a leaf.
                Err(ReportRefusal::NoEndorsement) | Ok(_) => continue,
                Err(error) => tell(error),
            }
            for issuer in pool.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, issuer)| issuer) {
                match verify_report(report, &[leaf, issuer], &[], &self.anchors, now) {
                    Ok(report) => return Ok(Chain { leaf: leaf.clone(), issuer: issuer.clone(), report }),
                    Err(error) => tell(error),
                }
            }
        }
        Err(refused)
    }

    /// A list to begin with, without any request.
    async fn stored_list(&self, chain: &Chain, table: &CertificateTable<'_>) -> Result<Option<List>, EndorseError> {
        if let Some(kds) = &self.kds
            && let Some(stored) = kds.stored(&crl_of(chain), None).await
            && let Some(list) = self.checked_list(chain, &stored)?
        {
            return Ok(Some(list));
        }
        table.get(TableItem::Crl).map_or(Ok(None), |bytes| self.checked_list(chain, bytes))
    }

    /// The newest list that can be had.
    async fn list(&self, chain: &Chain, table: &CertificateTable<'_>) -> Result<Option<List>, EndorseError> {
        let stored = self.stored_list(chain, table).await?;
        let Some(kds) = &self.kds else { return Ok(stored) };
        let ends_soon = stored.as_ref().is_none_or(|list| self.until(list.next_update) < LIST_ENDS_SOON);
        let resource = crl_of(chain);
        match kds.fetch(&resource, Some(if ends_soon { Duration::ZERO } else { LIST_AGE })).await {
            Ok(fetched) => match self.checked_list(chain, &fetched.bytes)? {
                Some(list) => return Ok(Some(list)),
                None => kds.reject(&resource).await,
            },
            Err(error) => tracing::warn!(%error, "no new revocation list"),
        }
        Ok(stored)
    }

    /// `None` where the list is no good; an error where it revokes our issuer.
    fn checked_list(&self, chain: &Chain, bytes: &[u8]) -> Result<Option<List>, EndorseError> {
        if bytes.len() > MAX_CRL_BYTES {
            tracing::warn!(bytes = bytes.len(), "a revocation list is too large to be stapled");
            return Ok(None);
        }
        let certificates = [chain.leaf.as_slice(), &chain.issuer];
        match verify_report(chain.report.report().raw(), &certificates, &[bytes], &self.anchors, (self.clock)()) {
            Ok(report) => match report.vek().crl() {
                CrlStatus::Checked { next_update } => Ok(Some(List { bytes: bytes.to_vec(), report, next_update })),
                CrlStatus::Absent => Ok(None),
            },
            Err(refused @ ReportRefusal::Chain(ChainError::Revoked { .. })) => Err(refused.into()),
            Err(error) => {
                tracing::warn!(error = %Causes(&error), "a revocation list is no good");
                Ok(None)
            }
        }
    }

    /// How long a set may stand before the next look.
    fn rest(&self, chain: &Chain, list: Option<&List>) -> Duration {
        let list = match list {
            Some(list) => self.until(list.next_update) / 2,
            None => self.kds.as_ref().map_or(LONGEST_REST, |kds| kds.pause(&crl_of(chain))),
        };
        list.min(self.until(chain.report.vek().not_after())).clamp(USUAL_REST, LONGEST_REST)
    }

    fn until(&self, end: UnixTime) -> Duration {
        let secs = end.as_secs().saturating_sub((self.clock)().as_secs());
        Duration::from_secs(u64::try_from(secs).unwrap_or(0))
    }
}

/// A revocation list that our verifier took, and the report as verified with it.
struct List {
    bytes: Vec<u8>,
    report: VerifiedReport,
    next_update: UnixTime,
}

/// A table that cannot be read is as good as none; the host wrote it.
fn parse_table(bytes: &[u8]) -> CertificateTable<'_> {
    CertificateTable::parse(bytes).unwrap_or_else(|error| {
        tracing::warn!(%error, "the host's certificate table is ignored");
        CertificateTable::default()
    })
}

fn crl_of(chain: &Chain) -> Resource {
    let vek = chain.report.vek();
    Resource::Crl { kind: vek.kind(), product: vek.product() }
}

/// A missing VLEK has an explanation of its own.
fn told(error: EndorseError, report: &Report) -> EndorseError {
    match error {
        EndorseError::Refused(ReportRefusal::NoEndorsement) if kind(report) == VekKind::Vlek => EndorseError::NoVlek,
        other => other,
    }
}

/// An error with everything below it, for one log line.
struct Causes<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}
