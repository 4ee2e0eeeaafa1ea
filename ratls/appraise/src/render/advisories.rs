//! The advisories of a result: what the verified report shows of each published vulnerability, for people and programs.
//!
//! Nothing here decides: the policy's floors and bits do.

use serde_json::{Value, json};

use crate::result::AttestationResult;
use formats::evidence::snp::SigningKey;
use formats::text::Untrusted;
use verify::advisories::{AdvisoryTable, AdvisoryVerdict, JudgedAdvisory};

impl AttestationResult {
    /// Returns the verdict on each advisory, those that cast doubt on the others first. Empty without an authentic report,
    /// and for a simulated one, which says nothing about a machine.
    pub fn advisories(&self) -> Vec<JudgedAdvisory> {
        match self.evidence() {
            Some(evidence) if !self.simulated() => {
                let verified = evidence.report();
                let product = verified.vek().product();
                AdvisoryTable::built_in().judge(verified.report(), product, Some(evidence.profile()))
            }
            _ => Vec::new(),
        }
    }
}

/// Returns the list as objects with `id`, `name`, `verdict`, `why`, `because` (of an open one) and `forges_reports`.
pub(super) fn to_json(judged: &[JudgedAdvisory]) -> Value {
    let one = |judged: &JudgedAdvisory| {
        let because = match judged.verdict() {
            AdvisoryVerdict::Open { what, .. } => Some(what.as_str()),
            _ => None,
        };
        json!({
            "id": judged.advisory().id(),
            "name": judged.advisory().name(),
            "verdict": judged.verdict().as_str(),
            "because": because,
            "why": judged.verdict().why(),
            "forges_reports": judged.advisory().forges_reports(),
        })
    };
    judged.iter().map(one).collect()
}

/// Returns the advisories as lines of a text: a summary, then what is not met. Empty if nothing was judged.
pub(super) fn lines(result: &AttestationResult) -> Vec<String> {
    let judged = result.advisories();
    if judged.is_empty() {
        return Vec::new();
    }
    let count = |word: &str| judged.iter().filter(|one| one.verdict().as_str() == word).count();
    let mut lines = vec![format!(
        "advisories of {}: {} met, {} open, {} not provable, {} not listed",
        AdvisoryTable::built_in().as_of(),
        count("met"),
        count("open"),
        count("not-provable"),
        count("not-listed"),
    )];
    let doubts: Vec<&str> = judged.iter().filter(|one| one.casts_doubt()).map(|one| one.advisory().name()).collect();
    if !doubts.is_empty() {
        lines.push(format!(
            "  these answers are the firmware's own word; attacks that are not ruled out could have made it lie: {}",
            doubts.join(", ")
        ));
    }
    if result.evidence().is_some_and(|evidence| evidence.report().report().signing_key() == SigningKey::Vlek) {
        lines.push(
            "  signed with a VLEK: they are about a machine of this provider, not about a particular one".to_owned(),
        );
    }
    for one in &judged {
        let word = match one.verdict() {
            AdvisoryVerdict::Open { what, .. } => format!("open ({})", what.as_str()),
            AdvisoryVerdict::NotProvable { .. } => "not provable".to_owned(),
            AdvisoryVerdict::Met { .. } | AdvisoryVerdict::NotListed { .. } => continue,
        };
        let (id, name) = (one.advisory().id(), one.advisory().name());
        lines.push(format!("  {word:<15} {id}  {}: {}", Untrusted(name), Untrusted(one.verdict().why())));
    }
    lines
}
