//! What Azure, Google, AWS and an SVSM add to report and registers, and what each leaves open.

use super::judge::Judge;
use super::shortened::one_of;
use crate::policy::{AwsRules, AzureRules, EndorsementRules, GcpRules, Need, Permission, ProfilePolicy};
use findings::{AzureCheck, Finding, GoogleCheck, NitroCheck, Severity, TpmCheck};
use formats::binding::Profile;
use formats::evidence::hcl::Claims;
use formats::evidence::tpm::{Bank, PcrValue};
use formats::time::UnixTime;
use verify::endorsement::{AkIdentity, GceInstance};
use verify::{VerifiedEvidence, VerifiedParts, VerifiedTpm};

/// PCR 0 of SHA-256 on Google's machines under SEV-SNP, by version of the firmware's name. It says that the
/// firmware took its machine for one with SEV-SNP, and nothing of the firmware's bytes.
const GCE_PCR0_SNP: [(&str, [u8; 32]); 2] = [
    ("v2", *b"\x50\x59\x7a\x27\x84\x6e\x91\xd0\x25\xee\xf5\x97\xab\xbc\x89\xf7\x2b\xff\x9a\xf8\x49\x09\x4d\xb9\x7b\x06\x84\xd8\xbc\x4c\x51\x5e"),
    ("v1", *b"\xea\xdf\xfa\x42\xb8\xbf\xc1\xe7\x15\x42\x02\x87\x6c\x58\x8e\x7a\x53\xf3\x9f\x62\x0d\x94\x6f\xbb\x09\xa3\x6b\x43\x65\xd4\x6a\xb9"),
];

/// Checks that hold under every policy and without one.
pub(super) fn always(judge: &mut Judge<'_>, evidence: &VerifiedEvidence) {
    if let Some(claims) = evidence.hcl() {
        paravisor(judge, claims);
    }
    if !judge.policy().is_some_and(|policy| asks_for_endorsement(policy, evidence)) {
        unused_endorsement(judge, evidence.parts());
    }
}

/// An endorsement that cannot be judged, or is not Google's, counts for nothing, and the report is what it was without. Where the
/// policy asks for one, [`failures`] refuses with the same reason.
pub(super) fn unused_endorsement(judge: &mut Judge<'_>, parts: &VerifiedParts) {
    if let Some(refusal) = parts.refused_endorsement() {
        judge.warn_of_verification(refusal.check(), refusal);
    }
}

/// Checks that compare with what the policy names.
pub(super) fn under_policy(judge: &mut Judge<'_>, policy: &ProfilePolicy, evidence: &VerifiedEvidence) {
    let clouds = policy.clouds();
    match evidence.profile() {
        Profile::AzureSnp => {
            if let Some(rules) = &clouds.azure {
                azure(judge, rules, evidence);
            }
        }
        Profile::GcpSnp => {
            if let Some(rules) = &clouds.gcp {
                gcp(judge, rules, evidence);
            }
        }
        Profile::AwsSnp => {
            if let Some(rules) = &clouds.aws {
                aws(judge, rules, evidence);
            }
        }
        Profile::Snp | Profile::SvsmSnp => {}
    }
}

/// A report without the guest's data is one of an old paravisor. What that means is said whatever the policy accepts of it.
fn paravisor(judge: &mut Judge<'_>, claims: &Claims) {
    if claims.user_data.is_none() {
        judge.add(AzureCheck::Stale, Severity::Cap, "of unknown age");
    }
    let configuration = &claims.configuration;
    if configuration.tpm_enabled == Some(false) {
        judge.grave(AzureCheck::Tpm, "false");
    }
    let interactive = configuration.interactive_console_enabled == Some(true);
    if configuration.console_enabled != Some(false) || interactive {
        let allowed = judge.policy().is_some_and(allows_console);
        if !allowed {
            let severity = if judge.policy().is_some() { Severity::Fatal } else { Severity::Warning };
            let console = said(configuration.console_enabled);
            let seen =
                if interactive { format!("{console}, interactive-console-enabled true") } else { console.to_owned() };
            judge.add(AzureCheck::Console, severity, seen);
        }
    }
    if configuration.secure_boot != Some(true) {
        let allowed = judge
            .policy()
            .and_then(|p| p.clouds().azure.as_ref())
            .is_some_and(|rules| rules.insecure_boot == Permission::Allow);
        let severity = if judge.policy().is_some() && !allowed { Severity::Fatal } else { Severity::Warning };
        judge.add(AzureCheck::SecureBoot, severity, said(configuration.secure_boot));
    }
}

fn allows_console(policy: &ProfilePolicy) -> bool {
    policy.clouds().azure.as_ref().is_some_and(|rules| rules.console == Permission::Allow)
}

fn said(flag: Option<bool>) -> &'static str {
    match flag {
        Some(true) => "true",
        Some(false) => "false",
        None => "not said",
    }
}

fn azure(judge: &mut Judge<'_>, rules: &AzureRules, evidence: &VerifiedEvidence) {
    let Some(tpm) = evidence.tpm() else { return };
    if tpm.proof().certificate().is_some() {
        return;
    }
    let severity = match rules.ak_certificate {
        Need::Require => Severity::Fatal,
        Need::IfPresent => Severity::Warning,
    };
    let help = "only the paravisor vouches for the key. Before August 2025 paravisors could be made to name a key of the VM's \
                administrator (CVE-2025-49707): name measurements of newer ones only, or set ak_certificate = \"require\"";
    judge
        .add(TpmCheck::NoCertificate, severity, "none")
        .wanting("Microsoft's certificate for the same key")
        .advising(help);
}

// ---- Google

fn gcp(judge: &mut Judge<'_>, rules: &GcpRules, evidence: &VerifiedEvidence) {
    let tpm = evidence.tpm();
    let instance = tpm.and_then(instance);
    named(judge, GoogleCheck::Project, &rules.projects, instance.map(GceInstance::project_id));
    named(judge, GoogleCheck::Zone, &rules.zones, instance.map(GceInstance::zone));
    if let Some(tpm) = tpm.filter(|_| rules.snp_firmware_in_pcr0) {
        pcr0(judge, tpm);
    }
    if let Some(rules) = &rules.endorsement {
        endorsement(judge, rules, evidence);
    }
}

fn instance(tpm: &VerifiedTpm) -> Option<&GceInstance> {
    match tpm.proof().certificate()?.identity() {
        AkIdentity::Gce(instance) => Some(instance),
        AkIdentity::Azure(_) => None,
    }
}

fn named(judge: &mut Judge<'_>, check: GoogleCheck, accepted: &[String], seen: Option<&str>) {
    if accepted.is_empty() || seen.is_some_and(|seen| accepted.iter().any(|a| a == seen)) {
        return;
    }
    let seen = seen.unwrap_or("not known: no certificate names it");
    judge.fatal(check, seen).wanting(one_of(accepted));
}

/// Whether PCR 0 says that Google's firmware took its machine for one with SEV-SNP.
pub fn is_gce_pcr0_of_snp(value: &PcrValue) -> bool {
    GCE_PCR0_SNP.iter().any(|(_, known)| PcrValue::new(Bank::Sha256, known).as_ref() == Some(value))
}

/// The value is SHA-256's; the one of another bank is not known, and so is not it.
fn pcr0(judge: &mut Judge<'_>, tpm: &VerifiedTpm) {
    let seen = tpm.pcrs().value(0);
    if seen.is_some_and(is_gce_pcr0_of_snp) {
        return;
    }
    let seen = seen.map_or("not quoted".to_owned(), |value| format!("PCR 0: {value}"));
    judge.fatal(GoogleCheck::Pcr0, seen);
}

/// Whether the policy rests the launch digest of this guest on Google's signature.
pub(super) fn asks_for_endorsement(policy: &ProfilePolicy, evidence: &VerifiedEvidence) -> bool {
    endorsement_rules(policy, evidence).is_some()
}

/// Google's word that this launch digest is that of a firmware which the policy accepts, in words; `None` where it is not given. The
/// root is the one that the policy names.
pub(super) fn endorsed(policy: &ProfilePolicy, evidence: &VerifiedEvidence) -> Option<String> {
    let rules = endorsement_rules(policy, evidence)?;
    let svn = evidence.parts().gce_endorsement()?.endorsement().snp()?.svn();
    failures(rules, evidence).is_empty().then(|| {
        format!("it is Google's word (endorsement of firmware svn {svn}), under the root {} that you name", rules.root)
    })
}

fn endorsement_rules<'p>(policy: &'p ProfilePolicy, evidence: &VerifiedEvidence) -> Option<&'p EndorsementRules> {
    match evidence.profile() {
        Profile::GcpSnp => policy.clouds().gcp.as_ref()?.endorsement.as_ref(),
        _ => None,
    }
}

fn endorsement(judge: &mut Judge<'_>, rules: &EndorsementRules, evidence: &VerifiedEvidence) {
    for Failure { check, seen, wanted } in failures(rules, evidence) {
        judge.fatal(check, seen).wanting(wanted);
    }
}

/// Why an endorsement is not one that the policy accepts for this guest.
struct Failure {
    check: GoogleCheck,
    seen: String,
    wanted: String,
}

fn failures(rules: &EndorsementRules, evidence: &VerifiedEvidence) -> Vec<Failure> {
    let measurement = evidence.report().report().measurement();
    if let Some(refusal) = evidence.parts().refused_endorsement() {
        let told = Finding::of_verification(refusal.check(), refusal);
        return vec![Failure {
            check: refusal.check(),
            seen: told.seen().to_owned(),
            wanted: told.wanted().to_owned(),
        }];
    }
    let Some(verified) = evidence.parts().gce_endorsement() else {
        return vec![Failure {
            check: GoogleCheck::Missing,
            seen: "none".to_owned(),
            wanted: "Google's, for this measurement".to_owned(),
        }];
    };
    let mut failures = Vec::new();
    let golden = verified.endorsement().snp();
    if golden.and_then(|golden| golden.vmsas_of(measurement)).is_none() {
        failures.push(Failure {
            check: GoogleCheck::Measurement,
            seen: measurement.to_string(),
            wanted: "one that the endorsement names".to_owned(),
        });
    }
    let svn = golden.map_or(0, |golden| golden.svn());
    if svn < rules.min_svn {
        failures.push(Failure {
            check: GoogleCheck::Svn,
            seen: svn.to_string(),
            wanted: format!("{} or above", rules.min_svn),
        });
    }
    let made = verified.endorsement().timestamp();
    if let Some(floor) = rules.not_before
        && made.is_none_or(|made| made < floor.as_secs())
    {
        failures.push(Failure {
            check: GoogleCheck::Old,
            seen: made.map_or("not said".to_owned(), |made| UnixTime::from_secs(made).to_string()),
            wanted: format!("{floor} or later"),
        });
    }
    failures
}

// ---- AWS

fn aws(judge: &mut Judge<'_>, rules: &AwsRules, evidence: &VerifiedEvidence) {
    let (Some(limit), Some(document)) = (rules.max_document_age, evidence.tpm().and_then(VerifiedTpm::document)) else {
        return;
    };
    // The Nitro system's clock against ours: a document of the future is as wrong as an old one.
    let made = i64::try_from(document.document().timestamp_ms() / 1000).unwrap_or(i64::MAX);
    let limit_secs = i64::try_from(limit.as_secs()).unwrap_or(i64::MAX);
    let age = evidence.at().as_secs().saturating_sub(made);
    if age.saturating_abs() > limit_secs {
        judge.fatal(NitroCheck::Age, format!("{age} s")).wanting(format!("at most {limit_secs} s"));
    }
}
