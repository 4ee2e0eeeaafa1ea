//! The attestation result: the verdict with every reason, and the token that opens a tunnel.
//!
//! Only this folder makes one. There is no `Default`, no `Deserialize`, no `Clone`, and no constructor from parts: a refusal
//! can be made from a finding, because a refusal opens nothing; an acceptance comes from [`super::appraise`] alone.

use std::time::Duration;

use super::identity::Identity;
use super::level_inputs;
use super::levels::{Levels, View};
use super::result_levels::Tables;
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
    /// Not authentic, or the policy refuses it.
    Refused(Stage),
}

impl Verdict {
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Accepted => "accepted",
            Verdict::Authentic => "authentic",
            Verdict::Refused(_) => "refused",
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

/// What a result is about.
#[derive(Debug)]
pub(super) enum Subject {
    /// Evidence of a guest, verified.
    Guest(Box<VerifiedEvidence>),
    /// Genuine pieces in files that make no guest.
    Pieces(Box<VerifiedPieces>),
    /// Verification refused, so none of the evidence is worth showing. The profile is what the attempt was about.
    Nothing(Option<Profile>),
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
    pub(super) findings: Vec<Finding>,
    pub(super) identity: Identity,
    pub(super) channel: Channel,
    pub(super) subject: Subject,
    pub(super) tables: Box<Tables>,
    pub(super) policy: Option<PolicyName>,
    pub(super) at: UnixTime,
}

impl AttestationResult {
    /// What a refusal of the verify stage looks like to people. `channel` is what was attempted; `profile` is `None` where
    /// nothing authentic named one.
    pub fn refusal(finding: Finding, channel: Channel, profile: Option<Profile>, at: UnixTime) -> AttestationResult {
        let tables = Tables::of(&level_inputs::refused(&finding, profile), View::Strict, channel);
        AttestationResult {
            tables: Box::new(tables),
            verdict: Verdict::Refused(Stage::Verify),
            findings: vec![finding.refusing()],
            identity: Identity::None,
            channel,
            subject: Subject::Nothing(profile),
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
        let tables = Tables::of(&level_inputs::refused(missing, pieces.profile()), View::Strict, Channel::None);
        let refused = findings.iter().any(|finding| finding.severity() == Severity::Fatal);
        AttestationResult {
            tables: Box::new(tables),
            verdict: if refused { Verdict::Refused(Stage::Appraise) } else { Verdict::Authentic },
            findings,
            identity: Identity::None,
            channel: Channel::None,
            at: pieces.at(),
            subject: Subject::Pieces(Box::new(pieces)),
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
            _ if refused => Verdict::Refused(Stage::Appraise),
            Some(_) => Verdict::Accepted,
            None => Verdict::Authentic,
        };
        AttestationResult {
            tables: Box::new(tables),
            verdict,
            findings,
            identity,
            channel: evidence.channel(),
            at: evidence.at(),
            subject: Subject::Guest(Box::new(evidence)),
            policy: policy.map(PolicyName::of),
        }
    }

    pub fn verdict(&self) -> Verdict {
        self.verdict
    }
    /// `Some` exactly where the verdict is refused.
    pub fn refused_by(&self) -> Option<Stage> {
        match self.verdict {
            Verdict::Refused(stage) => Some(stage),
            Verdict::Accepted | Verdict::Authentic => None,
        }
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
        self.evidence().map_or(Freshness::None, VerifiedEvidence::hw_freshness)
    }
    pub fn tpm_freshness(&self) -> Freshness {
        self.evidence().and_then(VerifiedEvidence::tpm).map_or(Freshness::None, VerifiedTpm::freshness)
    }
    /// `None` where verification refused before anything authentic named one.
    pub fn profile(&self) -> Option<Profile> {
        match &self.subject {
            Subject::Guest(evidence) => Some(evidence.profile()),
            Subject::Pieces(pieces) => pieces.profile(),
            Subject::Nothing(profile) => *profile,
        }
    }
    pub fn simulated(&self) -> bool {
        match &self.subject {
            Subject::Guest(evidence) => evidence.simulated(),
            Subject::Pieces(pieces) => pieces.simulated(),
            Subject::Nothing(_) => false,
        }
    }
    /// Pieces of evidence in files that make no guest.
    pub fn pieces(&self) -> Option<&VerifiedPieces> {
        match &self.subject {
            Subject::Pieces(pieces) => Some(pieces),
            Subject::Guest(_) | Subject::Nothing(_) => None,
        }
    }
    /// What became of each piece that came in files; empty for everything else.
    pub fn accounts(&self) -> &[PieceAccount] {
        match &self.subject {
            Subject::Guest(evidence) => evidence.accounts(),
            Subject::Pieces(pieces) => pieces.accounts(),
            Subject::Nothing(_) => &[],
        }
    }
    /// `None` where verification refused, or where there is no guest.
    pub fn evidence(&self) -> Option<&VerifiedEvidence> {
        match &self.subject {
            Subject::Guest(evidence) => Some(evidence),
            Subject::Pieces(_) | Subject::Nothing(_) => None,
        }
    }
    /// The trust table: what was verified, how well, and in whose root.
    pub fn levels(&self) -> &Levels {
        &self.tables.now
    }
    /// The table if the same evidence had been asked for now, over this connection: what a file can say.
    pub fn levels_if_fresh(&self) -> &Levels {
        &self.tables.if_fresh
    }
    /// The relaxed view, where the policy asks for it.
    pub fn levels_relaxed(&self) -> Option<&Levels> {
        self.tables.relaxed.as_ref()
    }

    /// The table that says something: of a file the one that ignores its age.
    pub(super) fn telling_levels(&self) -> &Levels {
        self.tables.telling(self.channel)
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
        let (Verdict::Accepted, Some(policy), Some(evidence)) = (self.verdict, &self.policy, self.evidence()) else {
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
        match self.verdict {
            Verdict::Accepted | Verdict::Authentic => 0,
            Verdict::Refused(Stage::Verify) => 1,
            Verdict::Refused(Stage::Appraise) => 3,
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
