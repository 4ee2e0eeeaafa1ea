//! [`VerifiedEvidence`]: authentic, and as fresh and bound as it says. Only this folder makes one.

use crate::account::PieceAccount;
use crate::channel::{Channel, Freshness};
use crate::endorsement::{TrustAnchors, VerifiedAk};
use crate::parts::{Listing, Part, PartRefusal, VerifiedParts};
use crate::report::VerifiedReport;
use crate::tpm::{AkProof, Registers, TpmKind, VerifiedTpm, Witness};
use formats::binding::{Profile, SpkiDigest, Statement};
use formats::evidence::hcl::Claims;
use formats::evidence::svsm::Manifest;
use formats::time::UnixTime;
use formats::wire::attest::PartInfo;

/// Evidence that was verified. What it is worth is appraisal's question.
#[derive(Debug)]
pub struct VerifiedEvidence {
    pub(super) profile: Profile,
    pub(super) platform: Platform,
    pub(super) channel: Channel,
    pub(super) listed: Vec<PartInfo>,
    pub(super) parts: VerifiedParts,
    pub(super) unbound_tpm: bool,
    pub(super) accounts: Vec<PieceAccount>,
    pub(super) statement: Option<Statement>,
    pub(super) leaf: Option<SpkiDigest>,
    pub(super) at: UnixTime,
}

impl VerifiedEvidence {
    /// Evidence from a file: proves what was signed, not who is on the other end of a connection, nor when.
    pub fn offline(report: VerifiedReport, at: UnixTime) -> Self {
        VerifiedEvidence {
            profile: Profile::Snp,
            platform: Platform::of_report(report, Freshness::None),
            channel: Channel::None,
            listed: vec![],
            parts: VerifiedParts::default(),
            unbound_tpm: false,
            accounts: Vec::new(),
            statement: None,
            leaf: None,
            at,
        }
    }

    pub fn profile(&self) -> Profile {
        self.profile
    }
    pub fn report(&self) -> &VerifiedReport {
        &self.platform.report
    }
    pub fn channel(&self) -> Channel {
        self.channel
    }
    pub fn hw_freshness(&self) -> Freshness {
        self.platform.hw_freshness
    }
    /// The TPM that answered. `None` where the platform has none, and where it has one of which nothing came: the profile tells.
    pub fn tpm(&self) -> Option<&VerifiedTpm> {
        self.platform.tpm.as_ref()
    }
    /// In files only: nothing shows that the TPM's word and the report are of one machine.
    pub fn tpm_is_unbound(&self) -> bool {
        self.unbound_tpm
    }
    /// What Azure's paravisor says, in the JSON that the report is over.
    pub fn hcl(&self) -> Option<&Claims> {
        self.platform.hcl.as_ref()
    }
    /// The cloud's certificate for the key that the paravisor names: of the quote, or alone where nothing was quoted.
    pub fn named_ak(&self) -> Option<&VerifiedAk> {
        self.tpm().and_then(|tpm| tpm.proof().certificate()).or(self.platform.named_ak.as_ref())
    }
    /// What the SVSM says of its services.
    pub fn svsm(&self) -> Option<&Manifest> {
        self.platform.svsm.as_ref()
    }
    /// Larger items that the ATTEST lists, as it lists them.
    pub fn listed_parts(&self) -> &[PartInfo] {
        &self.listed
    }
    /// Those of them that came.
    pub fn parts(&self) -> &VerifiedParts {
        &self.parts
    }
    /// Adds an item that the ATTEST lists. `anchors` are those that the evidence was verified with.
    pub fn add_part(&mut self, part: &Part, anchors: &TrustAnchors) -> Result<(), PartRefusal> {
        let config = self.statement.as_ref().map(|statement| &statement.config);
        self.parts.add_listed(part, Listing { listed: &self.listed, config }, anchors, self.at)
    }
    /// What became of each piece; empty where the evidence did not come in files.
    pub fn accounts(&self) -> &[PieceAccount] {
        &self.accounts
    }
    /// What the guest claims beside the report; absent for a bare report in a file.
    pub fn statement(&self) -> Option<&Statement> {
        self.statement.as_ref()
    }
    /// Digest of the TLS key that the evidence names.
    pub fn leaf(&self) -> Option<&SpkiDigest> {
        self.leaf.as_ref()
    }
    /// The chain ends in the operator's simulator root: proves nothing.
    pub fn simulated(&self) -> bool {
        self.platform.report.vek().simulated()
            || self.tpm().is_some_and(VerifiedTpm::simulated)
            || self.named_ak().is_some_and(VerifiedAk::simulated)
            || self.parts.gce_endorsement().is_some_and(|endorsement| endorsement.simulated())
    }
    /// Until when every certificate holds that the evidence rests on.
    pub fn not_after(&self) -> UnixTime {
        let vek = self.report().vek().not_after();
        let tpm = self.tpm().and_then(VerifiedTpm::not_after);
        let firmware = self.parts.gce_endorsement().map(|endorsement| endorsement.not_after());
        [tpm, firmware].into_iter().flatten().fold(vek, UnixTime::min)
    }
    /// The time that validity was judged at.
    pub fn at(&self) -> UnixTime {
        self.at
    }
}

/// What a platform's file found, before it is known what it hangs on.
#[derive(Debug)]
pub(super) struct Platform {
    pub(super) report: VerifiedReport,
    pub(super) hw_freshness: Freshness,
    pub(super) tpm: Option<VerifiedTpm>,
    /// The certificate of the key that the paravisor names, where that key quoted nothing.
    pub(super) named_ak: Option<VerifiedAk>,
    pub(super) hcl: Option<Claims>,
    pub(super) svsm: Option<Manifest>,
}

impl Platform {
    pub(super) fn of_report(report: VerifiedReport, hw_freshness: Freshness) -> Self {
        Platform { report, hw_freshness, tpm: None, named_ak: None, hcl: None, svsm: None }
    }

    /// With registers that were signed for this very question.
    pub(super) fn with_tpm(mut self, kind: TpmKind, registers: impl Into<Registers>, proof: AkProof) -> Self {
        let (registers, vmpl) = (registers.into(), self.report.report().vmpl());
        self.tpm = Some(VerifiedTpm { kind, registers, proof, freshness: Freshness::Connect, vmpl });
        self
    }

    /// The same, where what was signed hangs on less than a connection: nothing of it can be fresher than this.
    pub(super) fn no_fresher_than(mut self, freshness: Freshness) -> Self {
        self.hw_freshness = freshness;
        if let Some(tpm) = &mut self.tpm {
            tpm.freshness = freshness;
        }
        self
    }
}

impl VerifiedEvidence {
    /// Of a file that its reader wrote himself and keeps where nobody else writes, as an audit log is: what its witness saw, he
    /// saw. Changes nothing where the file has no witness.
    pub fn witnessed_by_reader(&mut self) {
        if let Some(VerifiedTpm { proof: AkProof::Witnessed(witness), .. }) = &mut self.platform.tpm {
            *witness = Witness::Reader;
        }
    }

    pub(super) fn set_proof(&mut self, proof: AkProof) {
        if let Some(tpm) = &mut self.platform.tpm {
            tpm.proof = proof;
        }
    }
}
