//! The verdicts of the built-in table over every genuine report, pinned as text. A change of the table or of a rule
//! changes this table, and whoever changes it sees what follows for machines that exist.

mod shared;

use std::fmt::Write as _;

use ratls::advisories::{AdvisoryTable, AdvisoryVerdict};
use ratls::evidence::snp::{Report, TcbKind};
use ratls::tcb::Product;
use shared::{Case, authentic};

/// In the order of the bulletins that differ between machines.
const COLUMNS: [&str; 15] = [
    "SB-3005", "SB-3015", "SB-3019", "SB-7033", "SB-3016", "SB-3020", "SB-3023", "SB-3027", "SB-3030", "SB-3034",
    "SB-3039", "SB-3045", "SB-7055", "SB-3011", "SB-3014",
];

fn product(case: &Case, report: &Report) -> Option<Product> {
    report.product_from_cpuid().or_else(|| case.product())
}

fn row(case: &Case) -> Option<String> {
    let report = Report::parse(&case.report).ok()?;
    let product = product(case, &report)?;
    let judged = AdvisoryTable::built_in().judge(&report, product, None);
    let tcb = report.tcb(TcbKind::Reported, product.layout());
    let mut line = format!("{:<26} {:>3}/{:<3}", case.id, tcb.snp(), tcb.microcode());
    for id in COLUMNS {
        let verdict = judged.iter().find(|one| one.advisory().is_named(id)).expect("a column is an advisory").verdict();
        let shown = match verdict {
            AdvisoryVerdict::Met { .. } => "m".to_owned(),
            AdvisoryVerdict::Open { what, .. } => format!("O:{}", &what.as_str()[..1]),
            AdvisoryVerdict::NotProvable { .. } => "?".to_owned(),
            AdvisoryVerdict::NotListed { .. } => "-".to_owned(),
        };
        write!(line, " {shown:>4}").expect("a string takes it");
    }
    Some(line)
}

#[test]
fn verdicts_over_genuine_reports_are_as_pinned() {
    let mut lines: Vec<String> =
        authentic("verdicts_over_genuine_reports_are_as_pinned").iter().filter_map(row).collect();
    lines.sort();
    let seen = lines.join("\n") + "\n";
    // Compared line by line with those whose evidence is here; a report without a line is a failure too.
    let pinned = include_str!("advisories.txt");
    for line in seen.lines() {
        assert!(pinned.lines().any(|known| known.trim_end() == line.trim_end()), "not pinned:\n{line}\n\nall:\n{seen}");
    }
}
