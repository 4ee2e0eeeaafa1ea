//! [`VerifiedEvidence`]: authentic, and as fresh and bound as it says. Only this folder makes one.

use crate::credential::{CredentialError, CredentialProof};
use crate::parts::VerifiedParts;
use crate::report::VerifiedReport;
use crate::tpm::{AkProof, Registers, TpmKind, VerifiedTpm, Witness};
use formats::binding::{Profile, SpkiDigest, Statement};
use formats::evidence::hcl::Claims;
use formats::evidence::svsm::Manifest;
use formats::time::UnixTime;
use formats::wire::attest::PartInfo;

/// How the evidence hangs on the connection that it came over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// On this very connection, by its exporter.
    Exporter,
    /// On the TLS key only: whoever has the key can show it.
    Key,
    /// On nothing: evidence in a file.
    None,
}

/// When the hardware signed, as far as it can be known without believing a clock of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// After this connection began.
    Connect,
    /// Within the policy's bound (staged freshness).
    Within,
    /// Before: how long is unknown.
    Stale,
    /// There is no such evidence.
    None,
}

impl Channel {
    pub const fn as_str(self) -> &'static str {
        match self {
            Channel::Exporter => "exporter",
            Channel::Key => "key",
            Channel::None => "none",
        }
    }
}

impl Freshness {
    pub const fn as_str(self) -> &'static str {
        match self {
            Freshness::Connect => "connect",
            Freshness::Within => "within",
            Freshness::Stale => "stale",
            Freshness::None => "none",
        }
    }
}

/// Evidence that was verified. What it is worth is appraisal's question.
#[derive(Debug)]
pub struct VerifiedEvidence {
    pub(super) profile: Profile,
    pub(super) platform: Platform,
    pub(super) channel: Channel,
    pub(super) listed: Vec<PartInfo>,
    pub(super) parts: VerifiedParts,
    pub(super) unbound_tpm: bool,
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
    pub(super) fn parts_mut(&mut self) -> &mut VerifiedParts {
        &mut self.parts
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
    pub(super) hcl: Option<Claims>,
    pub(super) svsm: Option<Manifest>,
}

impl Platform {
    pub(super) fn of_report(report: VerifiedReport, hw_freshness: Freshness) -> Self {
        Platform { report, hw_freshness, tpm: None, hcl: None, svsm: None }
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
    /// Notes that the AK was proven to live beside the EK. The proof must be for this EK, this AK and this guest.
    pub fn prove_ak(&mut self, proof: &CredentialProof) -> Result<(), CredentialError> {
        proof.is_for(self)?;
        self.set_proof(AkProof::Credential);
        Ok(())
    }

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
