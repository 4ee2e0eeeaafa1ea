//! Does docs/policy.md list exactly the checks that exist, with the stage that makes each?

use std::collections::BTreeSet;

use evident_findings::{Check, CheckStage};

const PAGE: &str = include_str!("../../../docs/policy.md");

/// `(id, stage)` of each id in the table under "Findings".
fn listed() -> Vec<(String, String)> {
    let rows = PAGE.split("\n## Findings\n").nth(1).expect("the page has the section").lines();
    let table = rows.skip_while(|line| !line.starts_with("| ---")).skip(1).take_while(|line| line.starts_with('|'));
    table
        .flat_map(|row| {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let (ids, stage) = (cells[1], cells[2].to_owned());
            ids.split_whitespace().map(move |id| (id.trim_matches('`').to_owned(), stage.clone())).collect::<Vec<_>>()
        })
        .collect()
}

fn stage(check: Check) -> &'static str {
    match check.stage() {
        CheckStage::Verify => "verify",
        CheckStage::Appraise(_) => "appraise",
        CheckStage::Both(_) => "both",
    }
}

#[test]
fn the_policy_page_lists_every_check_once_with_its_stage() {
    let listed = listed();
    let once: BTreeSet<_> = listed.iter().cloned().collect();
    assert_eq!(once.len(), listed.len(), "an id stands twice in docs/policy.md");
    let checks: BTreeSet<_> = Check::all().map(|check| (check.id().to_owned(), stage(check).to_owned())).collect();
    let missing: Vec<_> = checks.difference(&once).collect();
    let stale: Vec<_> = once.difference(&checks).collect();
    assert!(missing.is_empty() && stale.is_empty(), "not in docs/policy.md: {missing:?}; only there: {stale:?}");
}
