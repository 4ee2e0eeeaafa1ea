//! What the policy asks of the trust table, and what no policy can excuse in it.

use super::judge::Judge;
use super::levels::{Level, Levels};
use crate::policy::ProfilePolicy;
use findings::PolicyCheck;

/// `X_CONTRADICT`: two records that a root signed cannot both be true.
pub(super) fn contradictions(judge: &mut Judge<'_>, levels: &Levels) {
    for torn in levels.contradictions() {
        judge
            .fatal(
                PolicyCheck::Contradiction,
                format!(
                    "{}: {} under {}, {} under {}",
                    torn.what,
                    torn.first.1,
                    torn.first.0.as_str(),
                    torn.second.1,
                    torn.second.0.as_str()
                ),
            )
            .about(torn.component.as_str());
    }
}

/// `P_LEVEL`: a component below the level that the policy asks for, or under another root.
pub(super) fn wanted(judge: &mut Judge<'_>, policy: &ProfilePolicy, levels: &Levels) {
    for rule in &policy.levels().wanted {
        let cell = levels.cell(rule.component);
        let other_root = rule.anchor.is_some() && cell.anchor() != rule.anchor;
        if cell.level() >= rule.level && !other_root {
            continue;
        }
        let seen = match cell.anchor() {
            Some(root) => format!("{} {}", cell.level(), root.as_str()),
            None => cell.level().to_string(),
        };
        let help = if cell.level() >= rule.level && cell.level() > Level::L0 {
            "another root vouches for it than the policy asks for; no file or digest can change that on this platform"
        } else {
            cell.why()
        };
        judge
            .fatal(PolicyCheck::Level, seen)
            .wanting(format!("{rule} or above"))
            .about(rule.component.as_str())
            .advising(help);
    }
}
