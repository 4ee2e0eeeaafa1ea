//! Whether the policy accepts the launch digest, and what one that matched says of each component: claims for the level engine
//! (docs/levels.md).
//!
//! Covered is what the recipe covers, nothing else. A component is recomputed (level 3) only where all of its parts were in hand,
//! and rebuilt (level 4) only where each of those files is known to be.

use super::cloud;
use super::judge::Judge;
use super::levels::{Claim, Component, Cover, Matched, Named, Provenance};
use super::shortened::one_of;
use crate::policy::{DigestOrigin, ProfilePolicy, References};
use findings::{ReportCheck, Severity};
use formats::text::Untrusted;
use measure::launch::{LaunchLink, NotCovered};
use measure::reference::{BinaryProof, LaunchFound, Part, SourceProof, Standing};
use verify::{Link, Root, VerifiedEvidence};

pub(super) const fn provenance(origin: DigestOrigin) -> Provenance {
    match origin {
        DigestOrigin::Own => Provenance::Own,
        DigestOrigin::Vendor => Provenance::Vendor,
        DigestOrigin::Learned => Provenance::Learned,
    }
}

/// `R_LD`: a launch digest that nothing in the policy accepts.
///
/// The maker's own list counts where the policy names its root and no digest of its own; what is wrong with that list has findings of
/// its own ([`cloud`]).
pub(super) fn digest(judge: &mut Judge<'_>, policy: &ProfilePolicy, evidence: &VerifiedEvidence) {
    let measured = evidence.report().report().measurement();
    let own = !policy.snp().measurements.is_empty() || policy.references().speaks_of_launches();
    if policy.launch(measured).is_some() || (!own && cloud::asks_for_endorsement(policy, evidence)) {
        return;
    }
    if policy.snp().signer_suffices {
        let help = "only who signed the launch is compared, not what was launched: the signer's next release passes too, \
                    and so does any older one of the same guest_svn";
        judge.add(ReportCheck::LaunchDigest, Severity::Warning, measured).advising(help);
        return;
    }
    // Tried for files only: a guest that connects again and again must not cost a search each time.
    let near = if judge.is_live() { None } else { policy.references().explain(measured) };
    let help = near.unwrap_or_else(|| {
        "this guest does not run what the policy names; after an intended update, put the new digest into the policy"
            .to_owned()
    });
    let accepted = [policy.references().accepted_launches(), policy.snp().measurements.clone()].concat();
    let wanted = match accepted.as_slice() {
        [] => "one of a platform whose endorsement the policy accepts".to_owned(),
        accepted => one_of(accepted),
    };
    judge.fatal(ReportCheck::LaunchDigest, measured).wanting(wanted).advising(&help);
}

/// One claim for each component. `has_vtpm` leaves out what is not covered: there a vTPM speaks of it.
pub(super) fn claims(policy: &ProfilePolicy, found: &LaunchFound<'_>, has_vtpm: bool) -> Vec<Claim> {
    let references = policy.references();
    let mut firmware = claim(Component::Firmware, found.firmware(), found.proof(), references);
    firmware.notes.extend(found.machine().map(|machine| format!("launched by {machine}")));
    let mut boot = claim(Component::Boot, found.boot(), found.proof(), references);
    boot.says.extend(found.cmdline().map(|text| Named { what: "kernel command line", value: text.trim().to_owned() }));
    let kernel = claim(Component::Kernel, found.kernel(), found.proof(), references);
    let userspace = match found.verity_root() {
        None => claim(Component::Userspace, found.userspace(), found.proof(), references),
        Some(root) => {
            let image = references.images().iter().find_map(|image| image.expected().equals(root.as_bytes()));
            let standing = found.userspace().map(|standing| Standing { in_hand: image.is_some(), ..standing });
            claim(Component::Userspace, standing, image.as_ref().unwrap_or(found.proof()), references)
        }
    };
    let mut userspace = userspace;
    let doubtful = found.doubtful_words();
    if userspace.cover != Cover::None && !doubtful.is_empty() {
        let words: Vec<String> = doubtful.iter().map(|word| Untrusted(word).quoted()).collect();
        userspace.cover = Cover::Partial;
        userspace.matched = Matched::Nothing;
        userspace.notes.push(format!("in the command line, {} may change what runs", words.join(", ")));
    }
    let mut all = vec![firmware, boot, kernel, userspace];
    if has_vtpm {
        all.retain(|claim| claim.cover != Cover::None);
    }
    all
}

fn claim(
    component: Component,
    standing: Result<Standing, NotCovered>,
    proof: &BinaryProof,
    references: &References,
) -> Claim {
    let mut claim = Claim {
        component,
        root: Root::AmdSp,
        link: Link::Direct,
        cover: Cover::Full,
        matched: Matched::Digest(Provenance::Own),
        measured_by: Vec::new(),
        says: Vec::new(),
        notes: Vec::new(),
    };
    let standing = match standing {
        Ok(standing) => standing,
        Err(why) => {
            claim.link = Link::VerifiedByMeasured;
            claim.cover = Cover::None;
            claim.matched = Matched::Nothing;
            claim.notes.push(why.to_string());
            return claim;
        }
    };
    if standing.link == LaunchLink::VerifiedByMeasured {
        claim.link = Link::VerifiedByMeasured;
        claim.measured_by = enforcers(component, &standing);
    }
    if !standing.full {
        claim.cover = Cover::Partial;
    }
    if standing.in_hand {
        claim.matched = match SourceProof::new(proof.clone(), &standing.parts, references.rebuilds()) {
            Ok(proof) => Matched::Source(proof),
            Err(missing) => {
                // Whoever names no rebuild at all knows that there is none.
                claim.notes.extend((!references.rebuilds().is_empty()).then(|| missing.to_string()));
                Matched::Binary(proof.clone())
            }
        };
    }
    claim
}

/// Who refuses anything else: the firmware compares the hash table; an image is mounted by what was booted before it.
fn enforcers(component: Component, standing: &Standing) -> Vec<Component> {
    match (component, standing.parts.as_slice()) {
        (Component::Userspace, [Part::Image]) => vec![Component::Firmware, Component::Boot, Component::Kernel],
        _ => vec![Component::Firmware],
    }
}
