//! What was booted, against what the policy accepts of it: the event log, the IMA list, and the quoted registers that confirm them.
//!
//! ```text
//! account   each event of a judged register: which rule names it, if any
//! rules     what the policy asks, in terms of meaning              --> findings
//! ima       the files that IMA measured                            --> findings
//! pins      what rules would have to name for exactly this boot
//! cover     how much of each component that is (docs/levels.md) --> Measured for the levels
//! ```
//!
//! Assumes that the quote was verified. A log is believed only where a quoted register confirms it, and a text only where its
//! hash is in that log. Because neither names nor prefixes are covered by any register, a rule about one event is worth
//! nothing while the same register holds an event that no rule names: so such an event refuses (`L_EVENT`), unless the
//! policy leaves the rest of the register open with the word `any`, and then nothing above "partial" is said.

mod account;
mod cover;
mod ima;
mod pins;
mod rules;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

use super::judge::Judge;
use super::levels::{Component, Cover, Matched, Named};
use super::result::AttestationResult;
use crate::policy::{EventLogRules, ImageReference, ProfilePolicy};
use account::Account;
use findings::EventLogCheck;
use formats::evidence::event_log::{Event, EventLog};
use formats::evidence::ima::ImaList;
use formats::evidence::tpm::PcrValues;
use measure::measured_boot::{Boot, ReadLog};
use measure::reference::{BootReference, Expected, Rebuild};
pub use pins::{Pin, Pins};
use verify::{VerifiedEvidence, VerifiedParts, VerifiedTpm};

/// What a guest's TPM quoted, and the records that it sent with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Records<'a> {
    pub(super) quoted: &'a PcrValues,
    pub(super) log: Option<&'a ReadLog>,
    pub(super) ima: Option<&'a ImaList>,
}

/// What the verifier holds beside rules: files of the guest, root hashes of images, and statements about who rebuilt them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held<'a> {
    /// `None` where the policy names no file that firmware or loader measures.
    pub(super) files: Option<&'a BootReference>,
    pub(super) images: &'a [Expected],
    pub(super) rebuilds: &'a [Rebuild],
}

/// What the registers say about one component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Covered {
    pub(super) component: Component,
    pub(super) cover: Cover,
    pub(super) matched: Matched,
    pub(super) says: Vec<Named>,
    pub(super) notes: Vec<String>,
}

/// What came with verified evidence; `None` where no TPM quoted anything.
pub(super) fn records(evidence: &VerifiedEvidence) -> Option<Records<'_>> {
    records_of(evidence.tpm(), evidence.parts())
}

/// The same of pieces that make no guest.
pub(super) fn records_of<'a>(tpm: Option<&'a VerifiedTpm>, parts: &'a VerifiedParts) -> Option<Records<'a>> {
    tpm.map(|tpm| Records { quoted: tpm.pcrs(), log: parts.read_log(), ima: parts.ima_list() })
}

/// The log in the bank that was quoted, and what it says.
fn read(records: Records<'_>) -> Option<(&EventLog, Boot)> {
    records.log?.quoted(records.quoted)
}

impl AttestationResult {
    /// What was booted, by the event log and the registers that were quoted; `None` where nothing of it came.
    pub fn booted(&self) -> Option<Boot> {
        let records = match (self.evidence(), self.pieces()) {
            (Some(evidence), _) => records(evidence),
            (None, Some(pieces)) => records_of(pieces.tpm(), pieces.parts()),
            (None, None) => None,
        };
        read(records?).map(|(_, boot)| boot)
    }

    /// Events of the log that rules of the policy refuse because none of them names them (`L_EVENT`).
    pub fn unexpected_events(&self, policy: &ProfilePolicy) -> Vec<Event> {
        let found = || {
            let (log, boot) = read(records(self.evidence()?)?)?;
            let images: Vec<_> = policy.references().images().iter().map(ImageReference::expected).collect();
            let references = policy.references();
            let held = Held { files: references.boot(), images: &images, rebuilds: references.rebuilds() };
            let numbers = Account::of(policy.event_log()?, held, log, &boot).unexpected();
            Some(log.events().iter().filter(|event| numbers.contains(&event.number())).cloned().collect())
        };
        found().unwrap_or_default()
    }

    /// What rules of `[event_log]` would have to name for exactly this boot to be accepted; `None` where there is no log of it.
    pub fn pins(&self) -> Option<Pins> {
        let records = records(self.evidence()?)?;
        Pins::read(records.log?.log(), records.quoted)
    }
}

/// The same for programs: each sentence, and what confirms each register.
pub(super) fn to_json(boot: &Boot) -> Value {
    let sentences: Vec<Value> = boot
        .sentences()
        .iter()
        .map(|sentence| json!({"about": sentence.subject, "says": sentence.text, "bound": sentence.bound}))
        .collect();
    let registers: Map<String, Value> =
        boot.registers().iter().map(|register| (register.pcr.to_string(), register.state.as_str().into())).collect();
    json!({"bank": boot.bank().as_str(), "registers": registers, "sentences": sentences})
}

/// Judges the records. Without rules nothing is compared, and only what is odd is told. The result has boot, kernel and
/// userspace, in this order; of firmware these registers say nothing that counts.
pub(super) fn appraise(
    judge: &mut Judge<'_>,
    rules: Option<&EventLogRules>,
    held: Held<'_>,
    records: Option<Records<'_>>,
) -> Vec<Covered> {
    let Some(records) = records else {
        if rules.is_some() {
            judge.fatal(EventLogCheck::Absent, "no quote");
        }
        return Vec::new();
    };
    let Some((log, boot)) = read(records) else {
        if rules.is_some() {
            let seen = if records.log.is_some() { "digests of another bank than was quoted" } else { "no event log" };
            let help = "the guest's configuration says whether it sends its event log";
            judge
                .fatal(EventLogCheck::Absent, seen)
                .wanting(format!("an event log of bank {}", records.quoted.bank()))
                .advising(help);
        }
        return Vec::new();
    };
    let account = rules.map(|rules| Account::of(rules, held, log, &boot));
    rules::confirmed(judge, rules, &boot);
    if let (Some(rules), Some(account)) = (rules, &account) {
        rules::hold(judge, rules, &boot, account);
    }
    let line = account.as_ref().map_or(boot.command_line(), |account| account.line.as_ref());
    let files = ima::appraise(judge, rules, records, &boot, line);
    cover::of(rules, held, &boot, account.as_ref(), files)
}
