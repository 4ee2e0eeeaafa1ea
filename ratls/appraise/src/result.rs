//! The attestation result: the verdict with every reason, and the token that opens a tunnel.
//!
//! Only this folder makes one. There is no `Default`, no `Deserialize`, no `Clone`, and no constructor from parts: a refusal
//! can be made from a finding, because a refusal opens nothing; an acceptance comes from [`super::appraise`] alone.

use std::time::Duration;

use super::claims;
use super::identity::Identity;
use super::levels::View;
use super::tables::Tables;
use crate::policy::AppraisalPolicy;
use findings::{Finding, ReportCheck, Severity};
use formats::binding::Profile;
use formats::digest::Sha256Digest;
use formats::time::UnixTime;
use verify::{Channel, Freshness, PieceAccount, VerifiedEvidence, VerifiedPieces, VerifiedTpm};

/// The verdict in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Authentic, and the policy accepts it.
    Accepted,
    /// Authentic; no policy was given.
    Authentic,
    /// Not authentic, or the policy refuses it: [`AttestationResult::refused_by`] tells which.
    Refused,
}

impl Verdict {
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Accepted => "accepted",
            Verdict::Authentic => "authentic",
            Verdict::Refused => "refused",
        }
    }
}

/// Which stage refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Not authentic, not fresh or not bound.
    Verify,
    /// Authentic, but not what is accepted.
    Appraise,
}

impl Stage {
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Verify => "verify",
            Stage::Appraise => "appraise",
        }
    }
}

/// Which policy was asked.
#[derive(Debug)]
pub(super) struct PolicyName {
    pub(super) file: String,
    pub(super) digest: Sha256Digest,
    pub(super) max_age: Duration,
}

impl PolicyName {
    fn of(policy: &AppraisalPolicy) -> PolicyName {
        PolicyName { file: policy.file().to_owned(), digest: policy.digest(), max_age: policy.max_age() }
    }
}

/// Everything that is known after verification and appraisal. Immutable.
#[must_use]
#[derive(Debug)]
pub struct AttestationResult {
    pub(super) verdict: Verdict,
    pub(super) refused_by: Option<Stage>,
    pub(super) findings: Vec<Finding>,
    pub(super) identity: Identity,
    pub(super) channel: Channel,
    pub(super) profile: Option<Profile>,
    /// Absent where verification refused: then nothing of the evidence is worth showing.
    pub(super) evidence: Option<VerifiedEvidence>,
    /// Genuine pieces in files that make no guest, in place of evidence.
    pub(super) pieces: Option<Box<VerifiedPieces>>,
    pub(super) tables: Box<Tables>,
    pub(super) policy: Option<PolicyName>,
    pub(super) at: UnixTime,
}

impl AttestationResult {
    /// What a refusal of the verify stage looks like to people. `channel` is what was attempted; `profile` is `None` where
    /// nothing authentic named one.
    pub fn refusal(finding: Finding, channel: Channel, profile: Option<Profile>, at: UnixTime) -> AttestationResult {
        let tables = Tables::of(&claims::refused(&finding, profile), View::Strict, channel);
        AttestationResult {
            tables: Box::new(tables),
            verdict: Verdict::Refused,
            refused_by: Some(Stage::Verify),
            findings: vec![finding.refusing()],
            identity: Identity::None,
            channel,
            profile,
            evidence: None,
            pieces: None,
            policy: None,
            at,
        }
    }

    /// Pieces without a report: authentic where no policy is asked, and nothing that a policy could accept.
    pub(super) fn of_pieces(
        policy: Option<&AppraisalPolicy>,
        pieces: VerifiedPieces,
        mut findings: Vec<Finding>,
    ) -> AttestationResult {
        findings.sort_by_key(Finding::severity);
        let missing = findings.iter().find(|finding| finding.is(ReportCheck::Missing)).expect("pieces have no report");
        let tables = Tables::of(&claims::refused(missing, pieces.profile()), View::Strict, Channel::None);
        let refused = findings.iter().any(|finding| finding.severity() == Severity::Fatal);
        AttestationResult {
            tables: Box::new(tables),
            verdict: if refused { Verdict::Refused } else { Verdict::Authentic },
            refused_by: refused.then_some(Stage::Appraise),
            findings,
            identity: Identity::None,
            channel: Channel::None,
            profile: pieces.profile(),
            at: pieces.at(),
            evidence: None,
            pieces: Some(Box::new(pieces)),
            policy: policy.map(PolicyName::of),
        }
    }

    /// `fatal` findings refuse; without any, it is as good as whether a policy was asked.
    pub(super) fn judged(
        policy: Option<&AppraisalPolicy>,
        evidence: VerifiedEvidence,
        identity: Identity,
        tables: Tables,
        mut findings: Vec<Finding>,
    ) -> AttestationResult {
        findings.sort_by_key(Finding::severity);
        let refused = findings.iter().any(|f| f.severity() == Severity::Fatal);
        let verdict = match policy {
            _ if refused => Verdict::Refused,
            Some(_) => Verdict::Accepted,
            None => Verdict::Authentic,
        };
        AttestationResult {
            tables: Box::new(tables),
            verdict,
            refused_by: refused.then_some(Stage::Appraise),
            findings,
            identity,
            channel: evidence.channel(),
            profile: Some(evidence.profile()),
            at: evidence.at(),
            evidence: Some(evidence),
            pieces: None,
            policy: policy.map(PolicyName::of),
        }
    }

    pub fn verdict(&self) -> Verdict {
        self.verdict
    }
    /// `Some` exactly where the verdict is refused.
    pub fn refused_by(&self) -> Option<Stage> {
        self.refused_by
    }
    /// All findings, the fatal ones first.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }
    pub fn identity(&self) -> Identity {
        self.identity
    }
    pub fn channel(&self) -> Channel {
        self.channel
    }
    pub fn hw_freshness(&self) -> Freshness {
        self.evidence.as_ref().map_or(Freshness::None, VerifiedEvidence::hw_freshness)
    }
    pub fn tpm_freshness(&self) -> Freshness {
        self.evidence.as_ref().and_then(VerifiedEvidence::tpm).map_or(Freshness::None, VerifiedTpm::freshness)
    }
    /// `None` where verification refused before anything authentic named one.
    pub fn profile(&self) -> Option<Profile> {
        self.profile
    }
    pub fn simulated(&self) -> bool {
        self.evidence.as_ref().is_some_and(VerifiedEvidence::simulated)
            || self.pieces.as_ref().is_some_and(|pieces| pieces.simulated())
    }
    /// Pieces of evidence in files that make no guest.
    pub fn pieces(&self) -> Option<&VerifiedPieces> {
        self.pieces.as_deref()
    }
    /// What became of each piece that came in files; empty for everything else.
    pub fn accounts(&self) -> &[PieceAccount] {
        match (&self.evidence, &self.pieces) {
            (Some(evidence), _) => evidence.accounts(),
            (None, Some(pieces)) => pieces.accounts(),
            (None, None) => &[],
        }
    }
    /// `None` where verification refused.
    pub fn evidence(&self) -> Option<&VerifiedEvidence> {
        self.evidence.as_ref()
    }
    /// Digest of the policy that was asked.
    pub fn policy_digest(&self) -> Option<Sha256Digest> {
        self.policy.as_ref().map(|p| p.digest)
    }
    /// The time that validity was judged at.
    pub fn at(&self) -> UnixTime {
        self.at
    }

    /// Until when the verdict may be relied on: the policy's `max_age`, the first certificate's end, the revocation list's next
    /// update, whichever comes first. `None` for everything but an acceptance.
    pub fn expires(&self) -> Option<UnixTime> {
        let (Verdict::Accepted, Some(policy), Some(evidence)) = (self.verdict, &self.policy, &self.evidence) else {
            return None;
        };
        let max_age = i64::try_from(policy.max_age.as_secs()).expect("a policy's max_age is at most a week");
        let by_policy = UnixTime::from_secs(self.at.as_secs().saturating_add(max_age));
        let by_key = by_policy.min(evidence.not_after());
        let lists = [Some(evidence.report().vek().crl()), evidence.tpm().and_then(VerifiedTpm::crl)];
        Some(lists.into_iter().flatten().fold(by_key, |until, list| list.ends(until)))
    }

    /// The exit code of every command that ends in a verdict (docs of the command line: 0, 1, 3).
    pub fn exit_code(&self) -> u8 {
        match (self.verdict, self.refused_by) {
            (Verdict::Accepted | Verdict::Authentic, _) => 0,
            (Verdict::Refused, Some(Stage::Appraise)) => 3,
            (Verdict::Refused, Some(Stage::Verify) | None) => 1,
        }
    }

    /// The token without which no attested stream can be made: the verdict is accepted, and the evidence is bound to the very
    /// connection. A bundle or an evidence-bearing certificate that a policy accepts gives none.
    pub fn into_accepted(self) -> Result<AcceptedResult, Box<AttestationResult>> {
        if self.verdict == Verdict::Accepted && self.channel == Channel::Exporter {
            Ok(AcceptedResult(self))
        } else {
            Err(Box::new(self))
        }
    }
}

/// An [`AttestationResult`] of a live connection that the policy accepts. Made by [`AttestationResult::into_accepted`] alone.
#[must_use]
#[derive(Debug)]
pub struct AcceptedResult(AttestationResult);

impl AcceptedResult {
    pub fn result(&self) -> &AttestationResult {
        &self.0
    }
    /// The result alone, to be shown and shared. It gives no stream any more.
    pub fn into_result(self) -> AttestationResult {
        self.0
    }
    /// Until when the acceptance may be relied on.
    pub fn expires(&self) -> UnixTime {
        self.0.expires().expect("an accepted result expires")
    }
}
