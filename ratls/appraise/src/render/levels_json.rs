//! The trust table for programs: as JSON, and as a dictionary for headers and logs; and which tables of a result to show.

use serde_json::{Value, json};

use crate::levels::{Cell, Component, Levels, Row};
use crate::result::AttestationResult;
use verify::{Channel, Root};

impl AttestationResult {
    /// The tables to show under each other, with what each is called; the name is empty where there is one alone.
    pub fn table_rows(&self) -> Vec<(&'static str, &Levels)> {
        // Evidence in a file is of no connection, so a table of now would only repeat that: a root without a tick, beside a
        // verdict that says that its signature is genuine.
        let mut rows = match self.channel {
            Channel::None => vec![("if fresh", self.levels_if_fresh())],
            Channel::Exporter | Channel::Key => vec![("now", self.levels())],
        };
        if self.channel != Channel::None && self.levels() != self.levels_if_fresh() {
            rows.push(("if fresh", self.levels_if_fresh()));
        }
        if let Some(relaxed) = self.levels_relaxed() {
            rows.push(("relaxed", relaxed));
        }
        if let [(name @ "now", _)] = &mut rows[..] {
            *name = "";
        }
        rows
    }

    /// `levels` of the JSON alone.
    pub fn levels_json(&self) -> Value {
        to_json(self.levels())
    }

    /// The table in words, for headers and logs.
    pub fn level_words(&self) -> String {
        level_words(self.levels())
    }
}

/// `amd_sp=ok, vtpm=absent, firmware=2;amd-sp, boot=0, …`: a dictionary of RFC 8941, in the order of the table.
pub fn level_words(levels: &Levels) -> String {
    let mut words = vec![format!("amd_sp={}", levels.amd_sp().as_str()), format!("vtpm={}", levels.vtpm().as_str())];
    for cell in levels.cells() {
        let anchor = cell.anchor().map_or(String::new(), |root| format!(";{}", root.as_str()));
        words.push(format!("{}={}{anchor}", cell.component().as_str(), cell.level().number()));
    }
    words.join(", ")
}

/// The contract of the command line's JSON, and beside it the proof objects.
pub(super) fn to_json(levels: &Levels) -> Value {
    let row = |row: Row| row.as_str();
    let cell = |component| cell(levels.cell(component));
    json!({
        "view": levels.view().as_str(),
        "amd_sp": row(levels.amd_sp()),
        "vtpm": row(levels.vtpm()),
        "firmware": cell(Component::Firmware),
        "boot": cell(Component::Boot),
        "kernel": cell(Component::Kernel),
        "userspace": cell(Component::Userspace),
    })
}

fn cell(cell: &Cell) -> Value {
    let mut value = json!({
        "level": cell.level().number(),
        "anchor": cell.anchor().map_or("none", Root::as_str),
        "why": cell.why(),
    });
    if let Some((measurer, _)) = cell.held_down_by() {
        value["own_level"] = cell.own_level().number().into();
        value["held_down_by"] = measurer.as_str().into();
    }
    if let Some(proof) = cell.proof() {
        let files: Vec<_> = proof
            .in_hand()
            .iter()
            .map(|file| json!({"part": file.part.as_str(), "name": file.name, "sha256": file.sha256}))
            .collect();
        value["proof"] = json!({"recipe": proof.recipe(), "files": files});
    }
    if let Some(source) = cell.source() {
        let rebuilds: Vec<_> = source
            .rebuilds()
            .iter()
            .map(|rebuild| json!({"sha256": rebuild.sha256(), "source": rebuild.source(), "by": rebuild.by()}))
            .collect();
        value["proof"]["rebuilds"] = rebuilds.into();
    }
    value
}
