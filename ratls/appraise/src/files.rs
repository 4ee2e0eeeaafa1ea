//! What became of each file that was given: whatever is unsigned or of no use is said, so that nothing looks judged that was not.

use super::judge::Judge;
use findings::{FilesCheck, Severity};
use serde_json::{Value, json};
use verify::{PieceAccount, PieceFate, PieceKind};

/// A finding for each piece on which nothing rests. An endorsement has its own (`G_...`).
pub(super) fn accounts(judge: &mut Judge<'_>, accounts: &[PieceAccount]) {
    for account in accounts.iter().filter(|account| account.kind != PieceKind::FirmwareEndorsement) {
        let check = match &account.fate {
            PieceFate::Verified | PieceFate::Confirmed(_) => continue,
            PieceFate::Unsigned(_) => FilesCheck::Unsigned,
            PieceFate::Unused(_) => FilesCheck::Unused,
        };
        judge.add(check, Severity::Warning, account);
    }
}

/// The same for programs, with those that count.
pub(super) fn to_json(accounts: &[PieceAccount]) -> Value {
    let entry = |account: &PieceAccount| {
        json!({
            "piece": account.kind.as_str(),
            "of": account.label,
            "state": account.fate.as_str(),
            "why": account.fate.why(),
        })
    };
    accounts.iter().map(entry).collect()
}
