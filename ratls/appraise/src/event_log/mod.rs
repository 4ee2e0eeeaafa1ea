//! What was booted, against what the policy accepts of it: the event log, the IMA list, and the quoted registers that confirm them.
//!
//! ```text
//! account   each event of a judged register: which rule names it, if any
//! rules     what the policy asks, in terms of meaning              --> findings
//! booted    what a result says of it
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
mod booted;
mod cover;
mod ima;
mod pins;
mod rules;
#[cfg(test)]
mod tests;

use super::judge::Judge;
use super::levels::{Component, Cover, Matched, Named};
use crate::policy::EventLogRules;
use account::Account;
use findings::EventLogCheck;
use formats::evidence::event_log::EventLog;
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
