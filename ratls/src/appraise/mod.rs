//! Appraisal: is verified evidence what the policy accepts? All findings are returned, never only the first.
//!
//! ```text
//! guest      connection, statement, configuration   --.
//! snp        the report                              --+--> findings --> AttestationResult --> AcceptedResult
//! identity   the identity rule                       --'
//! ```
//!
//! Assumes that its evidence was verified, which the type says. Does not judge how much of the guest was measured: levels say
//! "not yet judged". RFC 9334, sections 8.4 and 8.5.

mod finding;
mod guest;
mod identity;
mod json;
mod judge;
pub mod levels;
mod result;
mod snp;
mod text;

pub use finding::{Finding, Severity};
pub use identity::Identity;
pub use result::{AcceptedResult, AttestationResult, Stage, Verdict};
pub use text::SIMULATED;

use crate::policy::AppraisalPolicy;
use crate::verify::VerifiedEvidence;
use judge::Judge;

/// Appraises evidence. Without a policy the verdict is `authentic`, unless a live connection shows what no policy can excuse
/// (decision 12): a debuggable guest, a migration agent, another VMPL than 0, or a simulator's root.
pub fn appraise(policy: Option<&AppraisalPolicy>, evidence: VerifiedEvidence) -> AttestationResult {
    let mut judge = Judge::new(policy, evidence.channel());
    guest::always(&mut judge, &evidence);
    snp::always(&mut judge, evidence.report());
    let mut identity = Identity::None;
    if let Some(policy) = policy {
        guest::under_policy(&mut judge, policy, &evidence);
        snp::under_policy(&mut judge, policy, evidence.report());
        identity = identity::appraise(&mut judge, policy.identity(), evidence.report().report());
    }
    AttestationResult::judged(policy, evidence, identity, judge.into_findings())
}
