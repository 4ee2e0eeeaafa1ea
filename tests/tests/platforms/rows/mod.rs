//! What docs/levels.md comes to, row by row: a guest of that deployment serves, our client judges what it shows under what its
//! user holds, and the table is the row's. What the connection showed is saved as a bundle too, and judged again from the file.
//!
//! Each row fails where it must: one thing less in the user's hands or in the evidence, and the levels that rest on it fall.

mod aws;
mod azure;
mod direct;
mod gcp;
mod svsm;
mod table;

use ratls::appraise::levels::{Component, Levels, Row};
use ratls::appraise::{Severity, Signed, summary, whose_connection};
use ratls::verify::Root;

use crate::judged::Judged;

impl Judged {
    /// The row: of the connection, and of the file if it were fresh.
    #[track_caller]
    pub(crate) fn prints(&self, wanted: &str) -> &Judged {
        assert_eq!(shown(self.live.levels()), wanted, "{}", self.live);
        assert_eq!(shown(self.saved.levels_if_fresh()), wanted, "{}", self.saved);
        assert!(self.live.simulated());
        self
    }

    /// No finding refuses but these.
    #[track_caller]
    fn refused_by(&self, wanted: &[&str]) -> &Judged {
        let fatal = self.live.findings().iter().filter(|finding| finding.severity() == Severity::Fatal);
        assert_eq!(fatal.map(|finding| finding.id()).collect::<Vec<_>>(), wanted, "{}", self.live);
        self
    }

    fn why(&self, component: Component) -> &str {
        self.live.levels().cell(component).why()
    }
}

/// The policy with another digest behind this key, one bit apart.
fn another(policy: &str, key: &str) -> String {
    let before = format!("\n{key} = \"");
    let at = policy.find(&before).expect("the policy has this key") + before.len();
    let mut other = policy.to_owned();
    other.replace_range(at..=at, if policy[at..].starts_with('0') { "1" } else { "0" });
    other
}

/// The sentence and the summary of `inspect`, as they would be of evidence that is not simulated.
#[track_caller]
fn claims_no_system_from_the_amd_sp(levels: &Levels) {
    let sentence = whose_connection(levels);
    assert!(
        sentence.starts_with("Some software behind this firmware, on AMD hardware, has this connection"),
        "{sentence}"
    );
    assert!(sentence.ends_with("which software, only the cloud's own vTPM says."), "{sentence}");
    let summary = summary(levels, Signed::Now);
    let line = |heading: &str| summary.iter().find(|(h, _)| *h == heading).map(|(_, text)| text.as_str());
    let system = ["what boots the kernel", "the kernel", "the userspace"];
    let proven = line("proven").expect("the firmware is proven");
    assert!(proven.starts_with("the firmware") && !system.iter().any(|part| proven.contains(part)), "{proven}");
    let word = line("on the cloud's word").expect("the vTPM says something");
    assert!(word.contains("the kernel") && word.ends_with("its vTPM signed it, which the cloud itself runs"), "{word}");
}

/// `✓ ✓ | L4 amd | L4 vtpm | L2 vtpm | L0`
pub(crate) fn shown(levels: &Levels) -> String {
    let row = |row: Row| row.glyph();
    let mut text = format!("{} {}", row(levels.amd_sp()), row(levels.vtpm()));
    for cell in levels.cells() {
        let anchor = cell.anchor().map_or("", |root| match root {
            Root::AmdSp => " amd",
            Root::Vtpm => " vtpm",
        });
        text.push_str(&format!(" | {}{anchor}", cell.level()));
    }
    text
}
