//! Why a cell says what it says, and what would raise it: one sentence or two for somebody who has not read the specification.

use super::claim::{Inputs, Provenance, parts};
use super::engine::{Cell, Ground};
use crate::policy::Component;
use measure::reference::{Artefact, Rebuild};
use verify::Root;

/// Files and names beyond these are counted, not listed.
const LISTED: usize = 3;

pub(super) fn sentence(cell: &Cell, inputs: &Inputs) -> String {
    let mut text = format!("{}: {}", cell.level(), reason(cell, inputs));
    for note in cell.notes() {
        text.push_str(&format!("; {note}"));
    }
    if let Some((measurer, level)) = cell.held_down_by() {
        let own = cell.own_level();
        let by = name(measurer);
        text.push_str(&format!(". Alone it would be {own}; {by} measured or started it and is itself at {level}"));
    }
    text
}

fn reason(cell: &Cell, inputs: &Inputs) -> String {
    let component = cell.component();
    match cell.ground() {
        Ground::Nothing => format!("nothing in the evidence measures {}", name(component)),
        Ground::Refused if inputs.amd_sp.missing => {
            "there is no report, so nothing here is known to come from a machine with an AMD-SP".to_owned()
        }
        Ground::Refused => {
            let vtpm = inputs.vtpm.iter().flat_map(|root| &root.fatal);
            let ids: Vec<&str> = inputs.amd_sp.fatal.iter().chain(vtpm).map(|check| check.id()).collect();
            format!("the evidence is refused ({}), so nothing in it counts", listed(&ids))
        }
        Ground::Contradicted => "two records contradict each other, so neither counts".to_owned(),
        Ground::NotAuthentic(root) => match inputs.root(*root) {
            Some(state) if !state.because.is_empty() => {
                format!("the {} is not authentic: {}", root_name(*root), state.because)
            }
            _ => format!("the {} is not authentic", root_name(*root)),
        },
        Ground::Stale(root) => {
            format!("nothing shows that what the {} signed is of now and of this connection (stale)", root_name(*root))
        }
        Ground::NoLink => {
            "the guest itself wrote the only link from this record to a root, and it is the guest that is in question"
                .to_owned()
        }
        Ground::NotMeasured => format!("no register is known to carry {} (not measured)", name(component)),
        Ground::Partial => {
            format!("an authentic register carries a part of {}, or part of it was compared", name(component))
        }
        Ground::NothingCompared => {
            "an authentic, fresh register carries its measurement, and nothing in the policy was \
                                    equal to it; pin its digest to reach L2"
                .to_owned()
        }
        Ground::Signer(who) => {
            format!("only its signer is pinned ({who}), which names no version; pin the digest to reach L2")
        }
        Ground::Digest(provenance) => {
            let whose = match provenance {
                Provenance::Own => "the digest equals the one you pinned",
                Provenance::Vendor => "the digest equals one that its maker signed",
                Provenance::Learned => "the digest equals one that was learned from an earlier connection",
            };
            format!("{whose}; give {} to reach L3", files(component))
        }
        Ground::Binary(proof) => format!(
            "the digest was recomputed from {}; a rebuild from source that you trust would make it L4",
            in_hand(proof.in_hand(), component)
        ),
        Ground::Source(proof) => {
            let rebuilt: Vec<String> = proof.rebuilds().iter().map(rebuild).collect();
            let made = in_hand(proof.binary().in_hand(), component);
            if rebuilt.is_empty() {
                format!("the digest was recomputed from {made}, which is its own source")
            } else {
                format!("the digest was recomputed from {made}, rebuilt from source: {}", listed(&rebuilt))
            }
        }
    }
}

fn rebuild(rebuild: &Rebuild) -> String {
    format!("{} by {}", rebuild.source(), listed(rebuild.by()))
}

fn in_hand(artefacts: &[Artefact], component: Component) -> String {
    let mut own: Vec<String> = Vec::new();
    for artefact in artefacts.iter().filter(|artefact| parts(component).contains(&artefact.part)) {
        let sha256 = artefact.sha256.to_string();
        let named = format!("{} (SHA-256 {}…)", artefact.name, sha256.get(..12).unwrap_or_default());
        // A unified kernel image is several parts in one file.
        if !own.contains(&named) {
            own.push(named);
        }
    }
    listed(&own)
}

fn listed<T: AsRef<str>>(items: &[T]) -> String {
    let mut text = items.iter().take(LISTED).map(T::as_ref).collect::<Vec<_>>().join(", ");
    if items.len() > LISTED {
        text.push_str(&format!(" and {} more", items.len() - LISTED));
    }
    text
}

fn name(component: Component) -> &'static str {
    match component {
        Component::Firmware => "the firmware",
        Component::Boot => "what boots the kernel",
        Component::Kernel => "the kernel",
        Component::Userspace => "the userspace",
    }
}

fn files(component: Component) -> &'static str {
    match component {
        Component::Firmware => "the firmware file",
        Component::Boot => "the files that boot the kernel (loader, initrd, command line)",
        Component::Kernel => "the kernel file",
        Component::Userspace => "the image",
    }
}

fn root_name(root: Root) -> &'static str {
    match root {
        Root::AmdSp => "AMD-SP",
        Root::Vtpm => "vTPM",
    }
}
