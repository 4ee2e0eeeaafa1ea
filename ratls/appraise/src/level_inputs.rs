//! From verified evidence and the policy's references to what the level engine is told (docs/levels.md).
//!
//! Assumes that the rules of the policy were applied: a finding about the signer of a root takes everything from that root.
//! Says less rather than more: a record that this version does not interpret is no claim.

use super::cloud;
use super::event_log::Covered;
use super::launch;
use super::levels::{Claim, Component, Cover, Inputs, Matched, Provenance, RootState};
use crate::policy::{IdentityRule, LaunchAnswer, ProfilePolicy};
use findings::{Check, Finding, ReportCheck, Severity, TableEffect};
use formats::binding::Profile;
use verify::{Channel, Freshness, Link, Root, VerifiedEvidence, VerifiedTpm};

/// Everything that is known, for [`super::levels::judge`].
pub(super) fn inputs(
    policy: Option<&ProfilePolicy>,
    evidence: &VerifiedEvidence,
    findings: &[Finding],
    covered: Vec<Covered>,
) -> Inputs {
    let grave = |finding: &&Finding| matches!(finding.severity(), Severity::Fatal | Severity::Cap);
    let with_effect = |effect: TableEffect| {
        findings.iter().filter(grave).map(Finding::check).filter(|check| check.effect() == effect).collect::<Vec<_>>()
    };
    let amd_sp = RootState {
        fresh: evidence.hw_freshness() == Freshness::Connect,
        bound: evidence.channel() != Channel::None,
        ageless: !with_effect(TableEffect::ReportAge).is_empty(),
        fatal: with_effect(TableEffect::AmdSp),
        ..RootState::sound()
    };
    let has_vtpm = evidence.profile() != Profile::Snp;
    let answer = policy.and_then(|policy| Some((policy, policy.launch(evidence.report().report().measurement())?)));
    let mut claims = match &answer {
        Some((policy, LaunchAnswer::Launch(found))) => launch::claims(policy, found, has_vtpm),
        _ => {
            let mut claims = vec![firmware(policy, evidence, findings)];
            if !has_vtpm {
                claims.extend([Component::Boot, Component::Kernel, Component::Userspace].map(unknown));
            }
            claims
        }
    };
    if let Some(tpm) = evidence.tpm() {
        let link = link(tpm, &amd_sp);
        claims.extend(covered.into_iter().map(|covered| registers(covered, link)));
    }
    let vtpm = vtpm_of(evidence, &amd_sp, &with_effect(TableEffect::Vtpm));
    Inputs { amd_sp, vtpm, claims }
}

/// A report of unknown age is no link; what is left is the cloud's certificate, where there is one (docs/levels.md).
fn link(tpm: &VerifiedTpm, amd_sp: &RootState) -> Link {
    match amd_sp.ageless && tpm.proof().certificate().is_some() {
        true => Link::VendorPki,
        false => tpm.link(),
    }
}

/// What the registers of a TPM carry. Each row is measured by the one that started it.
fn registers(covered: Covered, link: Link) -> Claim {
    let Covered { component, cover, matched, says, notes } = covered;
    let measured_by = match component {
        Component::Firmware => vec![],
        Component::Boot => vec![Component::Firmware],
        Component::Kernel => vec![Component::Boot],
        Component::Userspace => vec![Component::Kernel],
    };
    Claim { component, root: Root::Vtpm, link, cover, matched, measured_by, says, notes }
}

/// A TPM that answered is as good as who vouches for its key.
fn vtpm_of(evidence: &VerifiedEvidence, amd_sp: &RootState, against: &[Check]) -> Option<RootState> {
    let Some(tpm) = evidence.tpm() else { return vtpm(evidence.profile()) };
    let because = match link(tpm, amd_sp).anchor() {
        None => "nobody but the guest vouches for its key".to_owned(),
        Some(Root::AmdSp) if amd_sp.ageless => "only a report of unknown age names its key".to_owned(),
        Some(_) if evidence.tpm_is_unbound() => "it was asked for something else than this report".to_owned(),
        Some(_) => against.iter().map(|check| check.id()).collect::<Vec<_>>().join(", "),
    };
    Some(RootState {
        authentic: because.is_empty(),
        because,
        fresh: tpm.freshness() == Freshness::Connect,
        bound: evidence.channel() != Channel::None,
        ..RootState::sound()
    })
}

/// What a refusal before any evidence leaves: nothing counts, and the reason is the finding.
pub(super) fn refused(finding: &Finding, profile: Option<Profile>) -> Inputs {
    let amd_sp = RootState {
        authentic: false,
        missing: finding.is(ReportCheck::Missing),
        fatal: vec![finding.check()],
        ..RootState::sound()
    };
    Inputs { amd_sp, vtpm: profile.and_then(vtpm), claims: Vec::new() }
}

/// A platform that has a vTPM by its kind and shows none has a vTPM that failed.
fn vtpm(profile: Profile) -> Option<RootState> {
    match profile {
        Profile::Snp => None,
        Profile::AwsSnp | Profile::GcpSnp | Profile::AzureSnp | Profile::SvsmSnp => Some(RootState {
            authentic: false,
            because: "the evidence holds no quote of it".to_owned(),
            ..RootState::sound()
        }),
    }
}

/// The launch measurement: in full where it is on the policy's list or its maker's; where only the owner's key is pinned, its signer.
fn firmware(policy: Option<&ProfilePolicy>, evidence: &VerifiedEvidence, findings: &[Finding]) -> Claim {
    let signer_refused = findings
        .iter()
        .any(|finding| finding.severity() == Severity::Fatal && finding.check().effect() == TableEffect::LaunchSigner);
    let measured = evidence.report().report().measurement();
    let listed = policy.and_then(|policy| policy.launch(measured));
    let signed = |policy: &ProfilePolicy| match policy.identity() {
        IdentityRule::All(rules) => rules.launch_identity.is_some() && !signer_refused,
        IdentityRule::Any => false,
    };
    let endorsed = policy.and_then(|policy| cloud::endorsed(policy, evidence));
    let matched = match (policy, listed) {
        (_, Some(LaunchAnswer::Digest(origin))) => Matched::Digest(launch::provenance(origin)),
        _ if endorsed.is_some() => Matched::Digest(Provenance::Vendor),
        (Some(policy), _) if signed(policy) => Matched::Signer("the key of the ID block".to_owned()),
        _ => Matched::Nothing,
    };
    Claim {
        component: Component::Firmware,
        root: Root::AmdSp,
        link: Link::Direct,
        cover: Cover::Full,
        matched,
        measured_by: Vec::new(),
        says: Vec::new(),
        notes: endorsed.into_iter().collect(),
    }
}

/// A launch measurement may cover more than the firmware. A digest alone does not tell.
fn unknown(component: Component) -> Claim {
    Claim {
        component,
        root: Root::AmdSp,
        link: Link::VerifiedByMeasured,
        cover: Cover::None,
        matched: Matched::Nothing,
        measured_by: vec![Component::Firmware],
        says: Vec::new(),
        notes: vec!["a launch measurement can cover it, and its digest alone does not tell".to_owned()],
    }
}
