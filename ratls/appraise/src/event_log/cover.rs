//! How much of boot, kernel and userspace the registers cover, and what matched (docs/levels.md).
//!
//! Full needs every register of a component: one that is ignored, open, or not confirmed makes the cover partial, and the note
//! says which.

use super::account::{self, Account, Outcome};
use super::ima::Files;
use super::{Covered, Held};
use crate::launch::provenance;
use crate::levels::{Component, Cover, Matched, Named, Provenance};
use crate::policy::event_log::EventLogRules;
use formats::evidence::tpm::PcrValue;
use formats::text::Untrusted;
use measure::measured_boot::command_line::CommandLine;
use measure::measured_boot::registers::{Layer, registers_of};
use measure::measured_boot::{Boot, State, USR_KEYS, VerityBinding};
use measure::reference::{Part, SourceProof};

/// Boot, kernel, userspace.
pub(super) fn of(
    rules: Option<&EventLogRules>,
    held: Held<'_>,
    boot: &Boot,
    account: Option<&Account>,
    files: Files,
) -> Vec<Covered> {
    let compared = rules.zip(account);
    let boot_cover = boot_row(boot, held, compared);
    let kernel = kernel_row(boot, held, compared);
    let userspace = userspace_row(boot, held, compared, kernel.cover, files);
    vec![boot_cover, kernel, userspace]
}

type Compared<'a> = Option<(&'a EventLogRules, &'a Account)>;

fn covered(component: Component, cover: Cover, matched: Matched) -> Covered {
    Covered { component, cover, matched, says: Vec::new(), notes: Vec::new() }
}

/// Registers of a layer that are not accounted for in full, in words.
fn gaps(boot: &Boot, account: Option<&Account>, layer: Layer) -> Vec<String> {
    let gap = |pcr: u8| {
        let register = boot.register(pcr)?;
        match &register.state {
            state if state.is_confirmed() => {}
            State::NotQuoted | State::Unquoted => return Some(format!("PCR {pcr} is not quoted")),
            _ => return Some(format!("the log does not explain PCR {pcr}")),
        }
        if boot.anomalies.iter().any(|anomaly| anomaly.pcr() == pcr) {
            return Some(format!("the log of PCR {pcr} is odd"));
        }
        match account.map(|account| account.outcome(pcr)) {
            None | Some(Outcome::Matched) => None,
            Some(Outcome::Ignored) => Some(format!("PCR {pcr} is ignored")),
            Some(Outcome::Open(events)) => {
                Some(format!("{} events of PCR {pcr} are compared with nothing", events.len()))
            }
            Some(Outcome::Unexpected(events)) => Some(format!("{} events of PCR {pcr} are not expected", events.len())),
        }
    };
    registers_of(layer).filter_map(gap).collect()
}

/// What files in hand make of a component whose registers are all accounted for: recomputed where each of its digests is that of a
/// file, rebuilt where each of those files is. The keys of Secure Boot, the partition table and MOK lists are configuration: they are
/// compared by their digests, which does not lower what is known of programs.
fn best(rules: &EventLogRules, held: Held<'_>, digests: &[PcrValue], account: &Account, part: Part) -> Matched {
    let line = account.line.as_ref().map(CommandLine::text);
    let Some(proof) = held.files.and_then(|files| files.proof(digests, line)) else {
        return Matched::Digest(provenance(rules.origin));
    };
    let parts: Vec<Part> = match part {
        Part::Kernel => vec![Part::Kernel],
        _ => [Part::Loader, Part::Initrd].into_iter().filter(|part| proof.covers(*part)).collect(),
    };
    match SourceProof::new(proof.clone(), &parts, held.rebuilds) {
        Ok(source) if !parts.is_empty() => Matched::Source(source),
        _ => Matched::Binary(proof),
    }
}

/// Digests of everything between firmware and kernel that is a program or is read by one.
fn loaders(boot: &Boot) -> Vec<PcrValue> {
    let kernel = account::kernel(boot);
    let images = boot.images.iter().map(|image| image.digest);
    let files = boot.files.iter().map(|file| file.digest);
    let sections = boot.stub.sections.iter().filter(|section| section.name != ".cmdline").map(|section| section.digest);
    images.chain(files).chain(sections).filter(|digest| Some(*digest) != kernel).collect()
}

fn boot_row(boot: &Boot, held: Held<'_>, compared: Compared<'_>) -> Covered {
    let notes = gaps(boot, compared.map(|(_, account)| account), Layer::Boot);
    let (cover, matched) = match (notes.is_empty(), compared) {
        (true, Some((rules, account))) => (Cover::Full, best(rules, held, &loaders(boot), account, Part::Loader)),
        (true, None) => (Cover::Full, Matched::Nothing),
        (false, Some((rules, _))) if !rules.secure_boot_keys.is_empty() => {
            (Cover::Partial, Matched::Signer("the keys of Secure Boot".to_owned()))
        }
        (false, _) => (Cover::Partial, Matched::Nothing),
    };
    Covered { notes, ..covered(Component::Boot, cover, matched) }
}

/// The kernel's digest and its command line, in registers without a gap.
fn kernel_row(boot: &Boot, held: Held<'_>, compared: Compared<'_>) -> Covered {
    let measured = boot.kernel().is_some() || boot.stub.sections.iter().any(|section| section.name == ".linux");
    if !measured {
        return Covered {
            notes: vec!["no register that the log explains holds a kernel".to_owned()],
            ..covered(Component::Kernel, Cover::None, Matched::Nothing)
        };
    }
    let mut notes = gaps(boot, compared.map(|(_, account)| account), Layer::Kernel);
    if boot.command_lines.is_empty() {
        notes.push("its command line was not measured".to_owned());
    }
    if let Some((rules, account)) = compared {
        if !account.kernel_listed {
            notes.push("its digest is on no list".to_owned());
        }
        if !rules.names_lines() || !account.wrong_lines.is_empty() {
            notes.push("its command line is compared with nothing".to_owned());
        } else if account.unread_line {
            notes.push("its command line is pinned by a digest; what it says is not known".to_owned());
        }
    }
    let (cover, matched) = match (notes.is_empty(), compared) {
        (true, Some((rules, account))) => {
            let kernel: Vec<PcrValue> = account::kernel(boot).into_iter().collect();
            (Cover::Full, best(rules, held, &kernel, account, Part::Kernel))
        }
        (true, None) => (Cover::Full, Matched::Nothing),
        (false, _) => (Cover::Partial, Matched::Nothing),
    };
    let line =
        line(boot, compared).map(|line| Named { what: "kernel command line", value: Untrusted(line.text()).clipped() });
    Covered { notes, says: line.into_iter().collect(), ..covered(Component::Kernel, cover, matched) }
}

fn line<'a>(boot: &'a Boot, compared: Compared<'a>) -> Option<&'a CommandLine> {
    compared.map_or(boot.command_line(), |(_, account)| account.line.as_ref())
}

/// A root hash of dm-verity that the command line binds, or else a list of IMA.
fn userspace_row(boot: &Boot, held: Held<'_>, compared: Compared<'_>, kernel: Cover, files: Files) -> Covered {
    let verity = compared.and_then(|(rules, _)| rules.verity.as_ref());
    let binding = match (line(boot, compared), verity) {
        (Some(line), Some(verity)) => line.verity_binding(&verity.key, &verity.neutral_words),
        _ => VerityBinding::Absent,
    };
    if let (VerityBinding::Bound { root }, Cover::Full) = (&binding, kernel) {
        let says = vec![Named { what: "dm-verity root hash", value: root.clone() }];
        // A pattern that takes any root hash has compared none.
        let image = hex::decode(root).ok().and_then(|root| held.images.iter().find_map(|image| image.equals(&root)));
        let matched = match compared {
            Some(_) if image.is_some() => image.map_or(Matched::Nothing, |proof| {
                match SourceProof::new(proof.clone(), &[Part::Image], held.rebuilds) {
                    Ok(source) => Matched::Source(source),
                    Err(_) => Matched::Binary(proof),
                }
            }),
            Some((rules, _)) if pins(rules, root) => Matched::Digest(provenance(rules.origin)),
            _ => Matched::Nothing,
        };
        return Covered { says, ..covered(Component::Userspace, Cover::Full, matched) };
    }
    if let (Files::Nothing, Some(why)) = (files, unbound(line(boot, compared), &binding, kernel)) {
        let partial = covered(Component::Userspace, Cover::Partial, Matched::Nothing);
        return Covered { notes: vec![why], ..partial };
    }
    let (cover, matched, note) = match files {
        Files::Matched(count) => (
            Cover::PolicyBounded,
            Matched::Digest(compared.map_or(Provenance::Own, |(rules, _)| provenance(rules.origin))),
            format!(
                "IMA measured {} under its policy, all of them listed; what the policy leaves out is not known",
                entries(count)
            ),
        ),
        Files::Replayed(count) => {
            (Cover::Partial, Matched::Nothing, format!("IMA measured {}, not all of them compared", entries(count)))
        }
        Files::Nothing => (
            Cover::None,
            Matched::Nothing,
            "no dm-verity root hash in a command line that matched, and no list of IMA".to_owned(),
        ),
    };
    Covered { notes: vec![note], ..covered(Component::Userspace, cover, matched) }
}

/// Why a root hash on the command line does not cover the userspace; `None` if there is no hash.
fn unbound(line: Option<&CommandLine>, binding: &VerityBinding, kernel: Cover) -> Option<String> {
    let (key, _) = line?.verity_root_hash()?;
    Some(match binding {
        VerityBinding::Doubtful { words, .. } => {
            let words: Vec<String> = words.iter().map(|word| Untrusted(word).quoted()).collect();
            format!("the command line names a dm-verity root hash, but {} may change what runs", words.join(", "))
        }
        VerityBinding::Absent if USR_KEYS.contains(&key) => "usrhash covers /usr, not what else is mounted".to_owned(),
        VerityBinding::Absent => format!(
            "the command line names a dm-verity root hash, but the policy does not say that this initrd mounts nothing \
             else (verity_key = \"{key}\")"
        ),
        VerityBinding::Bound { .. } if kernel != Cover::Full => {
            "the command line names a dm-verity root hash, but kernel and command line are compared only in part"
                .to_owned()
        }
        VerityBinding::Bound { .. } => return None,
    })
}

fn entries(count: usize) -> String {
    if count == 1 { "one file".to_owned() } else { format!("{count} files") }
}

/// Whether the policy names this root hash: in a text of its own, or as a listed value of a variable.
fn pins(rules: &EventLogRules, root: &str) -> bool {
    let names = |text: &str| text.to_ascii_lowercase().contains(root);
    rules.command_lines.iter().any(|pattern| names(&pattern.to_string()))
        || rules.variables.values().flatten().any(|value| names(value))
}
