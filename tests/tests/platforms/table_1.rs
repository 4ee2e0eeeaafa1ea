//! docs/table-1.md: six deployments, emulated, each with the most that its user can hold of it. SIMULATED, PROVES NOTHING.
//!
//! Each row is what our client makes of one connection to a guest that serves. The same three files come out each time: digests and names
//! stand in them, and no key, time or address.

use ratls::appraise::html::{Standalone, svg};
use ratls::appraise::levels::Levels;
use ratls::appraise::{AttestationResult, MEANING, SIMULATED};
use ratls::verify::Root;
use serde_json::{Value, json};

use crate::cases::{self, Case};

/// One deployment: its name, and what the user holds.
struct Deployed {
    name: &'static str,
    held: &'static str,
    case: fn() -> Case,
}

const DEPLOYED: [Deployed; 6] = [
    Deployed {
        name: "AWS",
        held: "firmware, unified kernel image and file system (dm-verity), each rebuilt from source; NitroTPM's document",
        case: cases::aws_rebuilt,
    },
    Deployed {
        name: "Azure",
        held: "the paravisor's launch digest; unified kernel image and file system (dm-verity) as files; a paravisor that takes the guest's data",
        case: cases::azure_known,
    },
    Deployed {
        name: "GCP",
        held: "Google's firmware as a file; unified kernel image and file system (dm-verity), each rebuilt from source",
        case: cases::gcp_recomputed,
    },
    Deployed {
        name: "SNPGuard",
        held: "firmware, kernel, initrd and file system (dm-verity), each rebuilt from source; the command line",
        case: cases::snpguard_verity,
    },
    Deployed {
        name: "microCVM",
        held: "loader, kernel and initrd with the whole userspace, each rebuilt from source; the list of pages",
        case: cases::microcvm_rebuilt,
    },
    Deployed {
        name: "e-vTPM",
        held: "SVSM with firmware (IGVM), unified kernel image and file system (dm-verity), each rebuilt from source; the AK proven",
        case: cases::svsm_rebuilt,
    },
];

const COLUMNS: [&str; 6] = ["AMD-SP", "vTPM", "firmware", "other boot", "kernel", "userspace"];

pub(crate) struct Table {
    rows: Vec<(&'static Deployed, AttestationResult)>,
}

impl Table {
    /// Starts each deployment, connects to it, and ends it.
    pub(crate) async fn make() -> Table {
        let mut rows = Vec::new();
        for deployed in &DEPLOYED {
            let case = (deployed.case)();
            let guest = case.start().await;
            rows.push((deployed, guest.shows(&case, &case.held.policy()).await.live));
        }
        Table { rows }
    }

    /// Names and contents.
    pub(crate) fn files(&self) -> [(&'static str, String); 3] {
        [("table-1.txt", self.text()), ("table-1.json", self.json()), ("table-1.svg", self.svg())]
    }

    pub(crate) fn text(&self) -> String {
        let head: String = COLUMNS[2..].iter().map(|name| format!("{name:<13}")).collect();
        let mut text = format!("{SIMULATED}\n\n  {:10}{}  {}  {}\n", "", COLUMNS[0], COLUMNS[1], head.trim_end());
        for (deployed, result) in &self.rows {
            let levels = result.levels();
            let cells: String = levels
                .cells()
                .iter()
                .map(|cell| {
                    let anchor = cell.anchor().map_or("", Root::as_str);
                    format!("{:<13}", format!("{} {} {anchor}", cell.level().glyph(), cell.level()))
                })
                .collect();
            let (amd_sp, vtpm) = (levels.amd_sp().glyph(), levels.vtpm().glyph());
            text.push_str(format!("  {:<10}{amd_sp}       {vtpm}     {cells}", deployed.name).trim_end());
            text.push('\n');
        }
        let meaning: Vec<String> =
            MEANING.iter().map(|(level, words)| format!("{} {level} {words}", level.glyph())).collect();
        text.push_str(&format!("\n  {}\n", meaning.join("  ")));
        text.push_str("  amd-sp: comes down to AMD's signature   vtpm: to the cloud's word for its vTPM\n");
        for (deployed, result) in &self.rows {
            text.push_str(&format!("\n{}: {}\n", deployed.name, deployed.held));
            for cell in result.levels().cells() {
                text.push_str(&format!("  {:<10} {}\n", cell.component().as_str(), cell.why()));
            }
        }
        text
    }

    fn json(&self) -> String {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|(Deployed { name, held, .. }, result)| {
                json!({"deployment": name, "held": held, "levels": result.levels_json()})
            })
            .collect();
        format!("{:#}\n", json!({"notice": SIMULATED, "columns": COLUMNS, "deployments": rows}))
    }

    fn svg(&self) -> String {
        let rows: Vec<(&str, &Levels)> =
            self.rows.iter().map(|(deployed, result)| (deployed.name, result.levels())).collect();
        svg(&rows, Standalone::Yes { notice: SIMULATED })
    }
}
