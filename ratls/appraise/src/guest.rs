//! What the policy says to the connection and to the guest's own statement: channel, freshness, simulation, profile, names,
//! configuration, upstream.
//!
//! The statement is the guest's word. It is worth what the measured code is worth that asked the hardware to sign it, so it
//! is compared only after the report and adds nothing where the measurement is not accepted.

use super::judge::Judge;
use super::shortened::one_of;
use crate::policy::{ProfilePolicy, StaleReport};
use findings::{PolicyCheck, ReportCheck, Severity};
use formats::binding::{Profile, Statement, UpstreamScope};
use verify::{Channel, Freshness, VerifiedEvidence};

/// Checks that hold under every policy and without one.
pub(super) fn always(judge: &mut Judge<'_>, evidence: &VerifiedEvidence) {
    simulated(judge, evidence.simulated());
    channel(judge, evidence);
    if let Some(statement) = evidence.statement() {
        upstream(judge, statement);
    }
    no_policy(judge);
}

/// The same for pieces in files, where there is no guest.
pub(super) fn of_files(judge: &mut Judge<'_>, is_simulated: bool) {
    simulated(judge, is_simulated);
    bound_to_nothing(judge);
    no_policy(judge);
}

fn no_policy(judge: &mut Judge<'_>) {
    if judge.policy().is_none() {
        judge.add(PolicyCheck::NoPolicy, Severity::Info, "none");
    }
}

fn bound_to_nothing(judge: &mut Judge<'_>) {
    judge
        .add(PolicyCheck::Channel, Severity::Warning, "none: evidence from a file")
        .wanting("evidence of a connection");
}

/// Checks that compare with what the policy names.
pub(super) fn under_policy(judge: &mut Judge<'_>, policy: &ProfilePolicy, evidence: &VerifiedEvidence) {
    config(judge, policy, evidence.statement());
}

/// No part of the policy file is about guests of this platform. A rule about another must not be tried on it.
pub(super) fn unlisted(judge: &mut Judge<'_>, accepted: &[Profile], profile: Profile) {
    let help = "the policy accepts no guest of this platform; add an [[accept]] entry for it, or use another policy";
    judge.fatal(PolicyCheck::Profile, profile).wanting(one_of(accepted)).advising(help);
}

/// Under a policy that names no simulator the chain was refused already (E_ROOT). This refuses again in case that somebody
/// verified with the anchors of one policy and appraises with another.
fn simulated(judge: &mut Judge<'_>, is_simulated: bool) {
    if !is_simulated {
        return;
    }
    // Without a policy nothing is accepted; a guest that looks at itself is told and not refused.
    let named = judge.policy().is_none_or(ProfilePolicy::accepts_simulated);
    let severity = if named { Severity::Warning } else { Severity::Fatal };
    judge.add(PolicyCheck::Simulated, severity, "a simulator's root");
}

fn channel(judge: &mut Judge<'_>, evidence: &VerifiedEvidence) {
    match evidence.channel() {
        Channel::Exporter => {}
        Channel::Key => {
            judge
                .add(PolicyCheck::Channel, Severity::Warning, "bound to the TLS key")
                .wanting("bound to this connection")
                .advising(
                    "whoever has the key can relay the evidence; evident-client passes no data over such a connection",
                );
        }
        Channel::None => bound_to_nothing(judge),
    }
    let seen = match evidence.hw_freshness() {
        Freshness::Connect => return,
        Freshness::Within => "signed before this connection",
        Freshness::Stale => "stale",
        Freshness::None if evidence.statement().is_some() => {
            "signed for the connection that the bundle recorded, at an unknown time"
        }
        Freshness::None if evidence.channel() == Channel::None => {
            "report_data is shown, and compared with nothing: there is no connection"
        }
        Freshness::None => "unknown",
    };
    let file = evidence.channel() == Channel::None;
    // The user may accept an old paravisor's report where the quote is of now; it is no link to the AMD-SP, and
    // what the quote shows hangs on the vendor alone.
    let old_paravisor = evidence.hcl().is_some_and(|claims| claims.user_data.is_none())
        && evidence.tpm().is_some_and(|tpm| tpm.freshness() == Freshness::Connect)
        && judge.policy().is_some_and(accepts_stale_report);
    let fatal = judge.policy().is_some() && !file && !old_paravisor;
    let severity = if fatal { Severity::Fatal } else { Severity::Warning };
    let help = if file { "use `evident-client inspect` for a live guest" } else { "connect again with ALPN evident/1" };
    judge
        .add(ReportCheck::Fresh, severity, seen)
        .wanting("signed by hardware for this connection")
        .about("freshness")
        .advising(help);
}

fn accepts_stale_report(policy: &ProfilePolicy) -> bool {
    policy.clouds().azure.as_ref().is_some_and(|azure| azure.stale_report == StaleReport::AcceptOfUnknownAge)
}

fn upstream(judge: &mut Judge<'_>, statement: &Statement) {
    if statement.upstream_scope == UpstreamScope::InsideGuest {
        return;
    }
    let allowed = judge.policy().map(|p| p.guest().upstream_scope);
    let severity = match allowed {
        Some(UpstreamScope::InsideGuest) => Severity::Fatal,
        Some(UpstreamScope::OutsideGuest) | None => Severity::Warning,
    };
    judge.add(PolicyCheck::Upstream, severity, "plaintext leaves the guest");
}

/// A policy that names configurations and sees none refuses: a bare report has no statement to compare.
fn config(judge: &mut Judge<'_>, policy: &ProfilePolicy, statement: Option<&Statement>) {
    let accepted = &policy.guest().config;
    if accepted.is_empty() || statement.is_some_and(|s| accepted.contains(&s.config)) {
        return;
    }
    let seen = statement.map_or("no statement: a bare report carries none".to_owned(), |s| s.config.to_string());
    judge.fatal(PolicyCheck::Config, seen).wanting(one_of(accepted));
}

/// A guest that claims names must claim those of the policy. One that claims none is told apart by the identity rule alone.
/// Compares the names that applications may ask for with those that the guest claims.
pub(super) fn names(judge: &mut Judge<'_>, wanted: &[String], statement: &Statement) {
    let missing: Vec<_> = wanted.iter().filter(|name| !claims(&statement.names, name)).collect();
    if missing.is_empty() {
        return;
    }
    if statement.names.is_empty() {
        let help = "the guest's configuration can list the names that it serves";
        judge.add(PolicyCheck::Name, Severity::Info, "the guest claims none").wanting(one_of(wanted)).advising(help);
    } else {
        judge.fatal(PolicyCheck::Name, one_of(&statement.names)).wanting(one_of(&missing));
    }
}

/// A claimed name without a port covers every port of that name.
fn claims(claimed: &[String], name: &str) -> bool {
    let host = name.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit())).map(|(host, _)| host);
    claimed.iter().any(|c| c.eq_ignore_ascii_case(name) || host.is_some_and(|host| c.eq_ignore_ascii_case(host)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claimed_host_covers_its_ports_and_no_other_host() {
        let claimed = ["LLM.example".to_owned(), "db.example:5432".to_owned()];
        assert!(claims(&claimed, "llm.example"));
        assert!(claims(&claimed, "llm.example:8443"));
        assert!(claims(&claimed, "db.example:5432"));
        assert!(!claims(&claimed, "db.example"));
        assert!(!claims(&claimed, "db.example:1"));
        assert!(!claims(&claimed, "lm.example"));
    }
}
