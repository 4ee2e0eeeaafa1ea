//! Is it the machine or the guest that the policy expects (protocol.md §9.2)?

use super::finding::Severity;
use super::judge::Judge;
use super::snp::one_of;
use crate::evidence::snp::{Report, SigningKey};
use crate::policy::{IdentityRule, IdentityRules, LaunchIdentity};

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
            Identity::Any => "any",
            Identity::None => "none",
        }
    }
}

/// All rules of the table must hold.
pub(super) fn appraise(judge: &mut Judge<'_>, rule: &IdentityRule, report: &Report) -> Identity {
    match rule {
        IdentityRule::Any => {
            let help = "anybody's guest with this measurement passes; name chip_ids, report_ids or launch_identity";
            judge.add("I_ANY", Severity::Warning, "identity", "identity = \"any\"", "an identity rule", help);
            Identity::Any
        }
        IdentityRule::All(rules) => all(judge, rules, report),
    }
}

fn all(judge: &mut Judge<'_>, rules: &IdentityRules, report: &Report) -> Identity {
    let mut held = Vec::new();
    let mut failed = false;
    let mut note = |identity, holds: bool| if holds { held.push(identity) } else { failed = true };
    if let Some(chip_ids) = &rules.chip_ids {
        note(Identity::Platform, chip_id(judge, chip_ids, report));
    }
    if let Some(report_ids) = &rules.report_ids {
        let holds = report_ids.contains(report.report_id());
        if !holds {
            let help = "the guest was launched anew, or it is another one; pin the new instance if you launched it";
            judge.fatal("I_PIN", "report_id", report.report_id(), one_of(report_ids), help);
        }
        note(Identity::Pinned, holds);
    }
    if let Some(launch) = &rules.launch_identity {
        note(Identity::Owner, launch_identity(judge, launch, report));
    }
    match held.first() {
        Some(identity) if !failed => *identity,
        _ => Identity::None,
    }
}

fn chip_id(judge: &mut Judge<'_>, accepted: &[crate::evidence::snp::ChipId], report: &Report) -> bool {
    if report.signing_key() != SigningKey::Vcek {
        let help = "a VLEK belongs to a cloud and not to a machine: use launch_identity there, or refuse VLEK";
        judge.fatal("I_VLEK", "chip_id", "signed by a VLEK, which names no chip", "a report signed by a VCEK", help);
        return false;
    }
    let holds = accepted.contains(report.chip_id());
    if !holds {
        let help = "the guest runs on another machine than the policy lists; add the chip if it is yours";
        judge.fatal("I_CHIP", "chip_id", report.chip_id(), one_of(accepted), help);
    }
    holds
}

fn launch_identity(judge: &mut Judge<'_>, wanted: &LaunchIdentity, report: &Report) -> bool {
    const HELP: &str = "the guest was not launched with an ID block of this owner";
    let mut holds = true;
    let mut refuse = |judge: &mut Judge<'_>, subject, seen: String, wanted: String| {
        holds = false;
        judge.fatal("I_LAUNCH", subject, seen, wanted, HELP);
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
