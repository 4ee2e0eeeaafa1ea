//! Which colour does a word get on a terminal? Colours repeat what the text says.

use crate::levels::Row;
use crate::result::Verdict;
use findings::Severity;
use verify::Root;

/// Whether what is written goes to something that shows colours. They repeat what the text says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    Plain,
    Colour,
}

impl Paint {
    const GREEN: &'static str = "32";
    const RED: &'static str = "31";
    const YELLOW: &'static str = "33";
    const GREY: &'static str = "90";
    const BOLD: &'static str = "1";
    pub(super) const WARNING: &'static str = "1;31";

    pub(super) fn with(self, code: &str, text: &str) -> String {
        match self {
            Paint::Plain => text.to_owned(),
            Paint::Colour => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        }
    }

    pub(super) fn row(self, row: Row, glyph: char) -> String {
        let code = match row {
            Row::Ok => Self::GREEN,
            Row::Failed => Self::RED,
            Row::Absent => Self::GREY,
        };
        self.with(code, &glyph.to_string())
    }

    /// Black for the AMD-SP, grey for the vTPM.
    pub(super) fn level(self, anchor: Option<Root>, text: &str) -> String {
        match anchor {
            Some(Root::AmdSp) => self.with(Self::BOLD, text),
            Some(Root::Vtpm) | None => self.with(Self::GREY, text),
        }
    }

    pub(super) fn severity(self, severity: Severity, text: &str) -> String {
        match severity {
            Severity::Fatal => self.with(Self::RED, text),
            Severity::Cap | Severity::Warning => self.with(Self::YELLOW, text),
            Severity::Info => text.to_owned(),
        }
    }

    pub(super) fn verdict(self, verdict: Verdict, text: &str) -> String {
        match verdict {
            Verdict::Accepted => self.with(Self::GREEN, text),
            Verdict::Authentic => self.with(Self::YELLOW, text),
            Verdict::Refused(_) => self.with(Self::RED, text),
        }
    }
}
