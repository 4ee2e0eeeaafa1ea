//! Appraisal: is verified evidence what the policy accepts? All findings are returned, never only the first.
//!
//! ```text
//! policy     the TOML file --> AppraisalPolicy
//! guest      connection, statement, configuration   --.
//! snp        the report                              --|
//! tpm        the vTPM: who vouches, what it holds    --+--> findings --> AttestationResult --> AcceptedResult
//! cloud      what each platform adds                 --|
//! event_log  what was booted, by log and registers   --|
//! identity   the identity rule                       --'
//! level_inputs   evidence and references --> levels --> result_levels --> demand: what the policy asks of them
//! files      what became of each file that was given
//! render     how a result is shown: terminal, text, JSON, HTML
//! ```
//!
//! Assumes that its evidence was verified, which the type says. RFC 9334, sections 8.4 and 8.5.

#![warn(clippy::unwrap_used)]

mod cloud;
mod demand;
mod event_log;
mod files;
mod guest;
mod identity;
mod judge;
mod launch;
mod level_inputs;
pub mod levels;
pub mod policy;
pub mod render;
mod result;
mod result_levels;
mod shortened;
mod snp;
mod tpm;

pub use cloud::is_gce_pcr0_of_snp;
pub use event_log::{Pin, Pins};
pub use findings::{Finding, Severity};
pub use identity::Identity;
pub use render::{MEANING, Paint, SIMULATED, Signed, html, level_words, summary, whose_connection};
pub use result::{AcceptedResult, AttestationResult, Stage, Verdict};

use crate::policy::{AppraisalPolicy, ImageReference, ProfilePolicy};
use judge::Judge;
use result_levels::Tables;
use verify::{Channel, VerifiedEvidence, VerifiedFiles, VerifiedPieces};

/// Appraises evidence. Without a policy the verdict is `authentic`, unless a live connection shows what no policy can
/// excuse: a debuggable guest, a migration agent, another VMPL than 0, or a simulator's root.
///
/// The platform is the guest's own statement, so it selects one complete policy, and no rule of another is looked at: a
/// guest can choose by which policy it is judged, and never which rules of a policy apply.
pub fn appraise(file: Option<&AppraisalPolicy>, evidence: VerifiedEvidence) -> AttestationResult {
    let policy = file.and_then(|file| file.for_profile(evidence.profile()));
    let mut judge = Judge::new(file.is_some(), policy, evidence.channel());
    guest::always(&mut judge, &evidence);
    snp::always(&mut judge, evidence.report());
    tpm::always(&mut judge, &evidence);
    cloud::always(&mut judge, &evidence);
    files::accounts(&mut judge, evidence.accounts());
    if let (Some(file), None) = (file, policy) {
        guest::unlisted(&mut judge, &file.profiles(), evidence.profile());
    }
    if let (Some(file), Some(statement)) = (file, evidence.statement()) {
        guest::names(&mut judge, file.names(), statement);
    }
    let mut identity = Identity::None;
    if let Some(policy) = policy {
        guest::under_policy(&mut judge, policy, &evidence);
        snp::under_policy(&mut judge, policy, &evidence);
        tpm::under_policy(&mut judge, policy, &evidence);
        cloud::under_policy(&mut judge, policy, &evidence);
        identity = identity::appraise(&mut judge, policy.identity(), &evidence);
    }
    let rules = policy.and_then(ProfilePolicy::event_log);
    let images: Vec<_> = policy.iter().flat_map(|p| p.references().images()).map(ImageReference::expected).collect();
    let held = event_log::Held {
        files: policy.and_then(|policy| policy.references().boot()),
        images: &images,
        rebuilds: policy.map_or(&[], |policy| policy.references().rebuilds()),
    };
    let covered = event_log::appraise(&mut judge, rules, held, event_log::records(&evidence));
    let view = policy.map_or(levels::View::Strict, |policy| policy.levels().view);
    let inputs = level_inputs::inputs(policy, &evidence, judge.findings(), covered);
    let tables = Tables::of(&inputs, view, evidence.channel());
    let demanded = tables.demanded(evidence.channel());
    demand::contradictions(&mut judge, demanded);
    if let Some(policy) = policy {
        demand::wanted(&mut judge, policy, demanded);
    }
    AttestationResult::judged(file, evidence, identity, tables, judge.into_findings())
}

/// Appraises what came in files. Pieces without a report are never accepted: there is no guest.
pub fn appraise_files(policy: Option<&AppraisalPolicy>, files: VerifiedFiles) -> AttestationResult {
    match files {
        VerifiedFiles::Guest(evidence) => appraise(policy, *evidence),
        VerifiedFiles::Pieces(pieces) => appraise_pieces(policy, *pieces),
    }
}

/// Pieces may say no platform; then only a file for a single one can be meant.
fn appraise_pieces(file: Option<&AppraisalPolicy>, pieces: VerifiedPieces) -> AttestationResult {
    let policy = file.and_then(|file| match pieces.profile() {
        Some(profile) => file.for_profile(profile),
        None => file.only(),
    });
    let mut judge = Judge::new(file.is_some(), policy, Channel::None);
    guest::of_files(&mut judge, pieces.simulated());
    tpm::alone(&mut judge, &pieces);
    cloud::unused_endorsement(&mut judge, pieces.parts());
    files::accounts(&mut judge, pieces.accounts());
    // Levels need a guest; what the signed registers say of a log holds without one.
    let rules = policy.and_then(ProfilePolicy::event_log);
    let held = event_log::Held { files: None, images: &[], rebuilds: &[] };
    let _ = event_log::appraise(&mut judge, rules, held, event_log::records_of(pieces.tpm(), pieces.parts()));
    if let (Some(policy), Some(tpm)) = (policy, pieces.tpm()) {
        tpm::registers(&mut judge, policy, tpm);
    }
    AttestationResult::of_pieces(file, pieces, judge.into_findings())
}
