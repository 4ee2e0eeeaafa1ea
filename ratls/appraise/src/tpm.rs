//! What a vTPM is worth here, and whether its registers hold what the policy names.
//!
//! Every gap between a register and the AMD-SP is a finding that names it: who vouches, and that nobody else does. A guest's own
//! word for its TPM's key is never taken for a link ([`Link::GuestAsserted`]): the system whose state the registers are to
//! reveal is the one that gave it.

use super::judge::Judge;
use super::shortened::one_of;
use crate::policy::{AkRule, CrlRule, Need, NitroTpm, ProfilePolicy, RequiredRoot};
use findings::{EndorsementCheck, QuoteCheck, ReportCheck, Severity, TpmCheck};
use formats::binding::Profile;
use formats::evidence::tpm::PcrValues;
use verify::{AkProof, Link, TpmKind, VerifiedEvidence, VerifiedPieces, VerifiedTpm, Witness};

/// Checks that hold under every policy and without one.
pub(super) fn always(judge: &mut Judge<'_>, evidence: &VerifiedEvidence) {
    match evidence.tpm() {
        None => missing(judge, evidence.profile()),
        Some(tpm) if tpm.link().anchor().is_none() => unproven(judge, evidence.profile(), tpm),
        Some(tpm) => vouched(judge, tpm),
    }
    if evidence.tpm_is_unbound() {
        judge.grave(TpmCheck::Unbound, "its word names another report, or none");
    }
}

/// What a TPM of files is worth without a report beside it.
pub(super) fn alone(judge: &mut Judge<'_>, pieces: &VerifiedPieces) {
    judge.grave(ReportCheck::Missing, "none");
    if let Some(tpm) = pieces.tpm() {
        match tpm.link().anchor() {
            None => unproven(judge, pieces.profile().unwrap_or(Profile::AwsSnp), tpm),
            Some(_) => vouched(judge, tpm),
        }
    }
}

/// Checks that compare with what the policy names.
pub(super) fn under_policy(judge: &mut Judge<'_>, policy: &ProfilePolicy, evidence: &VerifiedEvidence) {
    required_roots(judge, policy, evidence);
    let profile = evidence.profile();
    let named = !policy.tpm().pcrs.is_empty() || !policy.tpm().require_pcrs.is_empty();
    match evidence.tpm() {
        Some(tpm) => registers(judge, policy, tpm),
        None if named && profile != Profile::Snp => {
            let help = "the policy names registers, and this guest showed none";
            judge
                .fatal(TpmCheck::Pcr, "none")
                .wanting("the registers that the policy names")
                .about("PCRs")
                .advising(help);
        }
        None => {}
    }
}

/// Whether the policy does without a TPM's word on this profile.
fn dispensable(policy: Option<&ProfilePolicy>, profile: Profile) -> bool {
    let Some(policy) = policy else { return false };
    match (profile, &policy.clouds().aws) {
        (Profile::AwsSnp, Some(aws)) => aws.vtpm == NitroTpm::None,
        _ => policy.tpm().quote == Need::IfPresent,
    }
}

fn missing(judge: &mut Judge<'_>, profile: Profile) {
    if profile == Profile::Snp {
        return; // it has none
    }
    let severity = match judge.policy() {
        Some(_) if !dispensable(judge.policy(), profile) => Severity::Fatal,
        _ => Severity::Cap,
    };
    judge.add(TpmCheck::Missing, severity, "nothing came of it");
}

fn unproven(judge: &mut Judge<'_>, profile: Profile, tpm: &VerifiedTpm) {
    let (seen, help) = match tpm.kind() {
        TpmKind::Host => (
            "a quote by a key for which nobody vouches: that the guest names it is the guest's own word",
            "on AWS ask the TPM for an attestation document, on Google's machines give the key's certificate",
        ),
        TpmKind::Paravisor => (
            "the key is named by a report that was not asked for at VMPL 0, so any kernel may have named it",
            "a paravisor asks at VMPL 0; this report is not one of a paravisor",
        ),
        TpmKind::Svsm => (
            "the key was not proven to live in the TPM whose EK the SVSM named",
            "evident-client proves it on a connection by a round trip (CRED); a file cannot, unless it is a bundle that saw it",
        ),
    };
    let accepted = judge.policy().is_some_and(|policy| match tpm.kind() {
        TpmKind::Svsm => policy.clouds().svsm.as_ref().is_some_and(|svsm| svsm.ak == AkRule::AcceptUnproven),
        TpmKind::Host => dispensable(Some(policy), profile),
        TpmKind::Paravisor => false,
    });
    let severity = if judge.policy().is_some() && !accepted { Severity::Fatal } else { Severity::Cap };
    judge.add(TpmCheck::Unproven, severity, seen).wanting("a key for which its TPM's maker vouches").advising(help);
}

/// Who vouches, and so whose word the registers are.
fn vouched(judge: &mut Judge<'_>, tpm: &VerifiedTpm) {
    if let AkProof::Witnessed(witness) = tpm.proof() {
        // Nothing signs it, so nothing rests on it but what the reader saw himself.
        let (severity, seen) = match witness {
            Witness::Reader => (Severity::Warning, "you saw the key proven to live in the SVSM's TPM"),
            Witness::Somebody => (
                Severity::Cap,
                "whoever saved the bundle says that the key was proven to live in the SVSM's TPM, and nothing signs that",
            ),
        };
        judge.add(TpmCheck::Witnessed, severity, seen);
    }
    revocation(judge, tpm);
    if tpm.link() == Link::VendorPki {
        judge.add(
            TpmCheck::Vendor,
            Severity::Warning,
            "outside the guest: the provider vouches for it, the AMD-SP does not",
        );
    }
}

/// Which CAs of a cloud have lists is told by the certificates below them: on no list can be what announces none.
fn revocation(judge: &mut Judge<'_>, tpm: &VerifiedTpm) {
    let Some(issuer) = tpm.missing_list() else { return };
    let required = judge.policy().is_some_and(|policy| policy.crl() == CrlRule::Require);
    let severity = if required { Severity::Fatal } else { Severity::Warning };
    let wanted = "a current list of each CA that has one";
    judge.add(EndorsementCheck::ProviderCrlAbsent, severity, format!("none of {issuer}")).wanting(wanted);
}

fn required_roots(judge: &mut Judge<'_>, policy: &ProfilePolicy, evidence: &VerifiedEvidence) {
    if !policy.clouds().required_roots.contains(&RequiredRoot::Csp) {
        return;
    }
    let vouches = evidence.tpm().is_some_and(|tpm| tpm.proof().certificate().is_some() || tpm.document().is_some());
    if !vouches {
        judge.fatal(TpmCheck::Roots, "AMD's only");
    }
}

pub(super) fn registers(judge: &mut Judge<'_>, policy: &ProfilePolicy, tpm: &VerifiedTpm) {
    let (rules, pcrs) = (policy.tpm(), tpm.pcrs());
    let bank = pcrs.bank();
    if !rules.banks.contains(&bank) {
        let banks: Vec<_> = rules.banks.iter().map(|bank| bank.as_str()).collect();
        judge.fatal(TpmCheck::Bank, bank).wanting(one_of(&banks));
        return;
    }
    if !rules.pcrs.is_empty() && !rules.pcrs.iter().any(|rule| rule.bank == bank) {
        let help = "name the values of this bank under [tpm.pcrs]; those of another bank cannot be compared";
        judge.fatal(TpmCheck::Bank, bank).wanting("the bank whose values the policy names").advising(help);
    }
    for rule in rules.pcrs.iter().filter(|rule| rule.bank == bank) {
        match pcrs.value(rule.index) {
            Some(value) if rule.accepted.contains(value) => {}
            Some(value) => {
                judge.fatal(TpmCheck::Pcr, format!("PCR {}: {value}", rule.index)).wanting(one_of(&rule.accepted));
            }
            None => not_shown(judge, rule.index, pcrs),
        }
    }
    for index in rules.require_pcrs.iter().filter(|index| pcrs.value(**index).is_none()) {
        not_shown(judge, *index, pcrs);
    }
}

fn not_shown(judge: &mut Judge<'_>, index: u8, pcrs: &PcrValues) {
    let shown: Vec<_> = pcrs.indices().map(|i| i.to_string()).collect();
    let help = "the guest must quote it; a register that is not quoted may hold anything";
    judge
        .fatal(QuoteCheck::Selection, format!("PCRs {}", shown.join(", ")))
        .wanting(format!("PCR {index} among them"))
        .advising(help);
}
