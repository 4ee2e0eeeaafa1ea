//! Is it the machine or the guest that the policy expects (docs/policy.md, "Identity")?

use super::judge::Judge;
use super::shortened::one_of;
use crate::policy::{IdentityRule, IdentityRules, LaunchIdentity, TpmIdentity};
use findings::{IdentityCheck, Severity};
use formats::binding::Profile;
use formats::evidence::snp::{Report, SigningKey};
use verify::VerifiedEvidence;
use verify::endorsement::AkIdentity;

/// What an accepted identity rests on. Where several rules held, the first of this order is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Identity {
    /// A chip id of the policy's list.
    Platform,
    /// This very guest instance.
    Pinned,
    /// An ID block that the owner's key signed.
    Owner,
    /// A vTPM of the policy's list, by the word of whoever vouches for it.
    Tpm,
    /// The policy says that anybody will do.
    Any,
    /// No policy, or its rule does not hold.
    None,
}

impl Identity {
    pub fn as_str(self) -> &'static str {
        match self {
            Identity::Platform => "platform",
            Identity::Pinned => "pinned",
            Identity::Owner => "owner",
            Identity::Tpm => "tpm",
            Identity::Any => "any",
            Identity::None => "none",
        }
    }
}

/// All rules of the table must hold.
pub(super) fn appraise(judge: &mut Judge<'_>, rule: &IdentityRule, evidence: &VerifiedEvidence) -> Identity {
    match rule {
        IdentityRule::Any => {
            judge.add(IdentityCheck::Any, Severity::Warning, "identity = \"any\"");
            Identity::Any
        }
        IdentityRule::All(rules) => all(judge, rules, evidence),
    }
}

fn all(judge: &mut Judge<'_>, rules: &IdentityRules, evidence: &VerifiedEvidence) -> Identity {
    let report = evidence.report().report();
    let mut held = Vec::new();
    let mut failed = false;
    let mut note = |identity, holds: bool| if holds { held.push(identity) } else { failed = true };
    if let Some(chip_ids) = &rules.chip_ids {
        note(Identity::Platform, chip_id(judge, chip_ids, report));
    }
    if let Some(report_ids) = &rules.report_ids {
        let holds = report_ids.contains(report.report_id());
        if !holds {
            judge.fatal(IdentityCheck::Pin, report.report_id()).wanting(one_of(report_ids));
        }
        note(Identity::Pinned, holds);
    }
    if let Some(launch) = &rules.launch_identity {
        note(Identity::Owner, launch_identity(judge, launch, report));
    }
    if let Some(wanted) = &rules.tpm {
        note(Identity::Tpm, tpm(judge, wanted, evidence));
    }
    match held.first() {
        Some(identity) if !failed => *identity,
        _ => Identity::None,
    }
}

fn chip_id(judge: &mut Judge<'_>, accepted: &[formats::evidence::snp::ChipId], report: &Report) -> bool {
    if report.signing_key() != SigningKey::Vcek {
        judge.fatal(IdentityCheck::Vlek, "signed by a VLEK, which names no chip");
        return false;
    }
    let holds = accepted.contains(report.chip_id());
    if !holds {
        judge.fatal(IdentityCheck::Chip, report.chip_id()).wanting(one_of(accepted));
    }
    holds
}

/// Each list speaks of one platform's evidence; at least one must speak of this one's, and all that do must hold.
fn tpm(judge: &mut Judge<'_>, wanted: &TpmIdentity, evidence: &VerifiedEvidence) -> bool {
    let vouched = evidence.tpm().filter(|tpm| tpm.link().anchor().is_some());
    let mut asked = 0;
    let mut holds = true;
    let mut compare = |judge: &mut Judge<'_>, subject, seen: Option<String>, accepted: Vec<String>| {
        asked += 1;
        if !seen.as_ref().is_some_and(|seen| accepted.contains(seen)) {
            holds = false;
            let seen = seen.unwrap_or_else(|| "none that anybody vouches for".to_owned());
            judge.fatal(IdentityCheck::Tpm, seen).wanting(one_of(&accepted)).about(subject);
        }
    };
    if let Some(names) = &wanted.ak_names {
        let seen = vouched.and_then(|tpm| tpm.ak()).map(|ak| hex::encode(ak.name().as_bytes()));
        compare(judge, "AK name", seen, names.iter().map(hex::encode).collect());
    }
    match evidence.profile() {
        Profile::AzureSnp => {
            if let Some(ids) = &wanted.azure_vm_ids {
                let id = evidence.hcl().and_then(|claims| claims.configuration.vm_unique_id.as_ref());
                compare(judge, "vmUniqueId", id.map(|id| id.to_ascii_lowercase()), ids.clone());
            }
        }
        Profile::GcpSnp => {
            if let Some(ids) = &wanted.gce_instance_ids {
                let id = vouched.and_then(|tpm| tpm.proof().certificate()).and_then(|ak| match ak.identity() {
                    AkIdentity::Gce(instance) => Some(instance.instance_id().to_string()),
                    AkIdentity::Azure(_) => None,
                });
                compare(judge, "instance id", id, ids.iter().map(u64::to_string).collect());
            }
        }
        Profile::AwsSnp => {
            if let Some(ids) = &wanted.ec2_instance_ids {
                let module = vouched.and_then(|tpm| tpm.document()).map(|document| document.document().module_id());
                // The instance, then the TPM: i-01234567890abcdef-tpm0000000000000000.
                let id = module.and_then(|module| module.rsplit_once("-tpm")).map(|(instance, _)| instance.to_owned());
                compare(judge, "module_id", id, ids.clone());
            }
        }
        Profile::Snp | Profile::SvsmSnp => {}
    }
    if asked == 0 {
        holds = false;
        judge
            .fatal(IdentityCheck::Tpm, format!("evidence of {}", evidence.profile()))
            .wanting("a platform that the policy's [identity.tpm] speaks of");
    }
    holds
}

fn launch_identity(judge: &mut Judge<'_>, wanted: &LaunchIdentity, report: &Report) -> bool {
    let mut holds = true;
    let mut refuse = |judge: &mut Judge<'_>, subject, seen: String, wanted: String| {
        holds = false;
        judge.fatal(IdentityCheck::Launch, seen).wanting(wanted).about(subject);
    };
    if *report.id_key_digest() != wanted.id_key_digest {
        refuse(judge, "id_key_digest", report.id_key_digest().to_string(), wanted.id_key_digest.to_string());
    }
    if let Some(author) = wanted.author_key_digest
        && !(report.author_key_en() && *report.author_key_digest() == author)
    {
        refuse(judge, "author_key_digest", report.author_key_digest().to_string(), author.to_string());
    }
    if report.guest_svn() < wanted.min_guest_svn {
        let floor = format!("{} or above", wanted.min_guest_svn);
        refuse(judge, "guest_svn", report.guest_svn().to_string(), floor);
    }
    if let Some(host_data) = wanted.host_data
        && *report.host_data() != host_data
    {
        refuse(judge, "host_data", report.host_data().to_string(), host_data.to_string());
    }
    holds
}
