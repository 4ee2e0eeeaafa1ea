//! The files that IMA measured, against the policy's list of them.

use super::Records;
use crate::judge::Judge;
use crate::policy::event_log::{EventLogRules, ImaRules};
use findings::{EventLogCheck, Severity};
use formats::evidence::ima::{BootAggregate, ImaEntry, Prefix};
use formats::text::Untrusted;
use measure::measured_boot::Boot;
use measure::measured_boot::command_line::CommandLine;
use verify::ima_mismatch;

/// Entries beyond these are counted, not listed.
const LISTED: usize = 3;

/// What the list is worth for the userspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Files {
    /// No list, none that the quote confirms, or one without entries.
    Nothing,
    /// Confirmed, and not compared in full.
    Replayed(usize),
    /// Every entry is on the list, none is void, the list is of this boot, and the kernel's measuring policy is known.
    Matched(usize),
}

/// Judges the list. Without rules it is only replayed, and what is odd about it is told.
pub(super) fn appraise(
    judge: &mut Judge<'_>,
    rules: Option<&EventLogRules>,
    records: Records<'_>,
    boot: &Boot,
    line: Option<&CommandLine>,
) -> Files {
    let rules = rules.and_then(|rules| rules.ima.as_ref());
    // A list that the policy does not ask for can hold levels down, and refuses nobody.
    let severity = if rules.is_some() { Severity::Fatal } else { Severity::Cap };
    let Some(list) = records.ima else {
        if rules.is_some() {
            judge.fatal(EventLogCheck::ImaAbsent, "none");
        }
        return Files::Nothing;
    };
    let prefix = match list.replay(records.quoted) {
        Ok(prefix) => prefix,
        Err(mismatch) => {
            judge.add(ima_mismatch(&mismatch), severity, &mismatch);
            return Files::Nothing;
        }
    };
    if prefix.entries().is_empty() {
        if rules.is_some() {
            let help = "the kernel measures nothing: its command line needs ima_policy=";
            judge.fatal(EventLogCheck::ImaAbsent, "PCR 10 was never extended").wanting("measured files").advising(help);
        }
        return Files::Nothing;
    }
    let count = prefix.entries().len();
    let of_this_boot = boot_aggregate(judge, severity, &prefix);
    let valid = violations(judge, &prefix);
    let Some(rules) = rules else { return Files::Replayed(count) };
    let known_policy = policy(judge, rules, boot, line);
    let listed = files(judge, rules, &prefix);
    match of_this_boot && valid && known_policy && listed {
        true => Files::Matched(count),
        false => Files::Replayed(count),
    }
}

fn boot_aggregate(judge: &mut Judge<'_>, severity: Severity, prefix: &Prefix<'_>) -> bool {
    let (severity, seen) = match prefix.boot_aggregate() {
        BootAggregate::Equal => return true,
        BootAggregate::Different { seen } => (severity, format!("the first entry is {seen}")),
        // It cannot be told; then the list is worth less, and nobody is refused for it.
        BootAggregate::OtherBank { algorithm } => {
            (Severity::Cap, format!("the first entry is over registers of bank {algorithm}, which were not quoted"))
        }
        BootAggregate::NotQuoted => (Severity::Cap, "PCR 0 to 9 are not all quoted".to_owned()),
        BootAggregate::Absent => (severity, "the first entry is no boot_aggregate".to_owned()),
    };
    judge.add(EventLogCheck::ImaBoot, severity, seen);
    false
}

/// A void measurement is a hole in what is known, whatever the policy lists.
fn violations(judge: &mut Judge<'_>, prefix: &Prefix<'_>) -> bool {
    let count = prefix.violations().count();
    if count > 0 {
        judge.add(EventLogCheck::ImaViolation, Severity::Cap, format!("{count} violations"));
    }
    count == 0
}

/// The rule that the kernel followed must stand in a command line that the registers confirm.
fn policy(judge: &mut Judge<'_>, rules: &ImaRules, boot: &Boot, line: Option<&CommandLine>) -> bool {
    let known = line.and_then(|line| line.value("ima_policy"));
    let confirmed =
        boot.command_lines.iter().all(|line| boot.register(line.pcr).is_some_and(|r| r.state.is_confirmed()));
    if known == Some(rules.policy.as_str()) && confirmed {
        return true;
    }
    let seen =
        known.map_or("no ima_policy= in a command line that is known".to_owned(), |text| Untrusted(text).clipped());
    judge.fatal(EventLogCheck::ImaPolicy, seen).wanting(format!("ima_policy={}", rules.policy));
    false
}

fn files(judge: &mut Judge<'_>, rules: &ImaRules, prefix: &Prefix<'_>) -> bool {
    let foreign: Vec<&ImaEntry> =
        prefix.entries().iter().filter(|entry| !entry.is_violation() && !is_listed(rules, entry)).collect();
    if foreign.is_empty() {
        return true;
    }
    let describe = |entry: &&ImaEntry| match entry.file() {
        Some(file) => format!("{} {file}", Untrusted(entry.path()).clipped()),
        None => format!("entry {} of a template that is not read", entry.number()),
    };
    let mut words: Vec<String> = foreign.iter().take(LISTED).map(describe).collect();
    if foreign.len() > LISTED {
        words.push(format!("{} more", foreign.len() - LISTED));
    }
    judge.fatal(EventLogCheck::ImaFile, words.join(", ")).wanting("only files of the policy's list");
    false
}

fn is_listed(rules: &ImaRules, entry: &ImaEntry) -> bool {
    if entry.number() == 0 && entry.path() == "boot_aggregate" {
        return true;
    }
    let Some(file) = entry.file() else { return false };
    // The digest of the SHA-1 templates is never on a list: the policy takes SHA-256 and above.
    let digest = file.to_string();
    rules.files.get(entry.path()).is_some_and(|digests| digests.contains(&digest))
}
