//! The trust table for a terminal, one row per deployment, one column per root and component.
//!
//! Under it, in words, what is proven, by whom, and what is not: a reader who has never seen the table needs no more.

use std::fmt::{self, Write};

use super::paint::Paint;
use crate::levels::{Cell, Component, Level, Levels, Row};
use formats::text::Untrusted;
use verify::Root;

/// Text is broken at this width.
const WIDTH: usize = 110;

/// What the circles mean, the fullest first.
pub const MEANING: [(Level, &str); 5] = [
    (Level::L4, "rebuilt from source"),
    (Level::L3, "recomputed from files"),
    (Level::L2, "known digest"),
    (Level::L1, "not compared"),
    (Level::L0, "not verified"),
];

/// What a table is about, which decides what "signed" means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signed {
    /// By hardware, for this connection.
    Now,
    /// By hardware; the evidence is in a file, and nobody knows when.
    Once,
    /// By software, which proves nothing.
    BySimulator,
}

impl Level {
    /// Its circle.
    pub const fn glyph(self) -> char {
        match self {
            Level::L0 => '○',
            Level::L1 => '◔',
            Level::L2 => '◑',
            Level::L3 => '◕',
            Level::L4 => '●',
        }
    }
}

impl Component {
    /// Returns its heading in tables for people. Files and programs use `as_str`.
    pub const fn heading(self) -> &'static str {
        match self {
            Component::Firmware => "firmware",
            Component::Boot => "other boot",
            Component::Kernel => "kernel",
            Component::Userspace => "userspace",
        }
    }
}

impl Row {
    pub const fn glyph(self) -> char {
        match self {
            Row::Ok => '✓',
            Row::Failed => '✗',
            Row::Absent => '–',
        }
    }
}

/// The rows under each other, with a head. A name may be empty.
pub(super) fn table(f: &mut impl Write, rows: &[(&str, &Levels)], paint: Paint) -> fmt::Result {
    let names = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let gap = if names == 0 { 0 } else { 2 };
    let head = Component::ALL.map(|component| format!("{:<13}", component.heading())).concat();
    writeln!(f, "  {:names$}{:gap$}AMD-SP  vTPM  {}", "", "", head.trim_end())?;
    for (name, levels) in rows {
        write!(f, "  {name:names$}{:gap$}", "")?;
        write!(f, "{}       ", paint.row(levels.amd_sp(), levels.amd_sp().glyph()))?;
        write!(f, "{}     ", paint.row(levels.vtpm(), levels.vtpm().glyph()))?;
        let last = levels.cells().len() - 1;
        for (i, cell) in levels.cells().iter().enumerate() {
            let text = shown(cell);
            let text = if i == last { text } else { format!("{text:<13}") };
            write!(f, "{}", paint.level(cell.anchor(), &text))?;
        }
        writeln!(f)?;
    }
    Ok(())
}

fn shown(cell: &Cell) -> String {
    let anchor = cell.anchor().map_or("", Root::as_str);
    format!("{} {} {anchor}", cell.level().glyph(), cell.level()).trim_end().to_owned()
}

/// `● L4 built from source   ◕ L3 …`
pub(super) fn legend(f: &mut impl Write) -> fmt::Result {
    let items: Vec<_> = MEANING.iter().map(|(level, text)| format!("{} {level} {text}", level.glyph())).collect();
    writeln!(f, "  {}", items.join("  "))
}

/// Each cell's reason.
pub(super) fn reasons(f: &mut impl Write, levels: &Levels) -> fmt::Result {
    for cell in levels.cells() {
        paragraph(f, &format!("  {:<13} ", cell.component().heading()), &Untrusted(cell.why()).to_string())?;
    }
    Ok(())
}

/// What the table comes to, each as a heading and what stands under it.
pub fn summary(levels: &Levels, signed: Signed) -> Vec<(&'static str, String)> {
    let (proven, by_amd, by_cloud) = match signed {
        Signed::Now => ("proven", "AMD's hardware signed it", "its vTPM signed it, which the cloud itself runs"),
        Signed::Once => (
            "proven for once",
            "AMD's hardware signed it, at an unknown time",
            "its vTPM, which the cloud itself runs, signed it at an unknown time",
        ),
        Signed::BySimulator => (
            "SIMULATED",
            "hardware would have to sign it; a simulator did, which proves nothing",
            "a cloud's vTPM would have to sign it; a simulator did, which proves nothing",
        ),
    };
    let of = |wanted: &dyn Fn(&Cell) -> bool| -> Option<String> {
        let named: Vec<_> = levels.cells().iter().filter(|cell| wanted(cell)).map(named).collect();
        (!named.is_empty()).then(|| named.join(", "))
    };
    let compared = |root: Root| move |cell: &Cell| cell.level() >= Level::L2 && cell.anchor() == Some(root);
    let mut lines = Vec::new();
    let mut line = |heading, text: Option<String>| lines.extend(text.map(|text| (heading, text)));
    line(proven, of(&compared(Root::AmdSp)).map(|text| format!("{text}: {by_amd}")));
    line("on the cloud's word", of(&compared(Root::Vtpm)).map(|text| format!("{text}: {by_cloud}")));
    line(
        "seen, not compared",
        of(&|cell| cell.level() == Level::L1)
            .map(|text| format!("{text}: measured, but not (or only in part) compared with your policy")),
    );
    line(
        "not proven",
        of(&|cell| cell.level() == Level::L0)
            .map(|text| format!("{text}: unverified: it could be under an attacker's control")),
    );
    lines
}

/// Who has a live connection whose evidence is fresh and bound to it.
///
/// The binder is written by the guest's system. Who that is, is known only as far as the kernel is: a host can start
/// a kernel of its own behind genuine firmware.
pub fn whose_connection(levels: &Levels) -> &'static str {
    let kernel = levels.cell(Component::Kernel);
    match (kernel.level() >= Level::L2, kernel.anchor()) {
        (true, Some(Root::Vtpm)) if levels.amd_sp() != Row::Ok => {
            "Some software has this connection; which software, and on what machine, only the cloud's own vTPM says."
        }
        _ if levels.amd_sp() != Row::Ok => {
            "Some software has this connection; nothing here shows which software, or on what machine."
        }
        (true, Some(Root::AmdSp)) => {
            "This connection ends inside the attested guest: hardware signed it after the connection began."
        }
        (true, _) => {
            "Some software behind this firmware, on AMD hardware, has this connection; which software, only the cloud's own vTPM says."
        }
        (false, _) if levels.cell(Component::Firmware).level() >= Level::L2 => {
            "Some software behind this firmware, on AMD hardware, has this connection; nothing here shows which software."
        }
        (false, _) => "Some software on AMD hardware has this connection; nothing here shows which software.",
    }
}

/// Who made the TLS key, where evidence names the key and no connection. As [`whose_connection`], and whoever holds the key now may be
/// somebody else.
pub(super) fn whose_key(levels: &Levels) -> &'static str {
    let kernel = levels.cell(Component::Kernel);
    match (levels.amd_sp() == Row::Ok && kernel.level() >= Level::L2, kernel.anchor()) {
        (true, Some(Root::AmdSp)) => {
            "The TLS key was made inside the attested guest; whoever holds the key now may be elsewhere."
        }
        (true, Some(Root::Vtpm)) => {
            "Some software on AMD hardware named the TLS key; which software, only the cloud's own vTPM says, and whoever holds the \
             key now may be elsewhere."
        }
        _ => {
            "Some software on AMD hardware named the TLS key; nothing here shows which software, and whoever holds the key now may be \
             elsewhere."
        }
    }
}

fn named(cell: &Cell) -> String {
    let name = match cell.component() {
        Component::Firmware => "the firmware",
        Component::Boot => "what boots the kernel",
        Component::Kernel => "the kernel",
        Component::Userspace => "the userspace",
    };
    match cell.level() {
        level if level < Level::L2 => name.to_owned(),
        // Seen once is not known to be right.
        level if cell.is_learned() => format!("{name} ({level}, learned)"),
        level => format!("{name} ({level})"),
    }
}

pub(super) fn summary_lines(f: &mut impl Write, levels: &Levels, signed: Signed) -> fmt::Result {
    let wide = summary(levels, signed).iter().map(|(heading, _)| heading.len()).max().unwrap_or(0);
    for (heading, text) in summary(levels, signed) {
        paragraph(f, &format!("  {heading:wide$}  "), &text)?;
    }
    Ok(())
}

/// Words broken at [`WIDTH`], the following lines indented as far as the first one's text.
fn paragraph(f: &mut impl Write, first: &str, text: &str) -> fmt::Result {
    let indent = first.chars().count();
    let mut line = first.to_owned();
    let mut at = indent;
    for word in text.split(' ') {
        let len = word.chars().count();
        if at > indent && at + 1 + len > WIDTH {
            writeln!(f, "{}", line.trim_end())?;
            line = " ".repeat(indent);
            at = indent;
        }
        if at > indent {
            line.push(' ');
            at += 1;
        }
        line.push_str(word);
        at += len;
    }
    writeln!(f, "{}", line.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::levels::{Inputs, RootState, View, judge};

    fn nothing() -> Levels {
        judge(&Inputs { amd_sp: RootState::sound(), vtpm: None, claims: vec![] }, View::Strict)
    }

    /// Nothing that the hardware signed counts: it was signed at an unknown time.
    fn of_unknown_age() -> Levels {
        let amd_sp = RootState { fresh: false, ageless: true, ..RootState::sound() };
        judge(&Inputs { amd_sp, vtpm: Some(RootState::sound()), claims: vec![] }, View::Strict)
    }

    #[test]
    fn whoever_has_a_connection_or_a_key_is_told_no_more_than_the_table_says() {
        let (sound, old) = (nothing(), of_unknown_age());
        assert_eq!((sound.amd_sp(), old.amd_sp()), (Row::Ok, Row::Failed));
        assert!(whose_connection(&sound).starts_with("Some software on AMD hardware has this connection"));
        let old_words = [whose_connection(&old), whose_key(&old), whose_key(&sound)];
        assert_eq!(
            old_words[0],
            "Some software has this connection; nothing here shows which software, or on what machine."
        );
        assert!(old_words.iter().all(|words| !words.contains("attested guest")), "{old_words:?}");
    }

    #[test]
    fn the_table_has_its_columns_under_their_names() {
        let levels = nothing();
        let mut text = String::new();
        table(&mut text, &[("now", &levels), ("if fresh", &levels)], Paint::Plain).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "            AMD-SP  vTPM  firmware     other boot   kernel       userspace");
        assert_eq!(lines[1], "  now       ✓       –     ○ L0         ○ L0         ○ L0         ○ L0");
        assert!(!text.contains('\u{1b}'));
        let mut unnamed = String::new();
        table(&mut unnamed, &[("", &levels)], Paint::Plain).unwrap();
        assert!(unnamed.starts_with("  AMD-SP  vTPM  firmware"), "{unnamed}");
    }

    #[test]
    fn colour_changes_no_text() {
        let levels = nothing();
        let (mut plain, mut colour) = (String::new(), String::new());
        table(&mut plain, &[("", &levels)], Paint::Plain).unwrap();
        table(&mut colour, &[("", &levels)], Paint::Colour).unwrap();
        assert!(colour.contains("\u{1b}["));
        let mut stripped = String::new();
        let mut inside = false;
        for c in colour.chars() {
            match c {
                '\u{1b}' => inside = true,
                'm' if inside => inside = false,
                c if !inside => stripped.push(c),
                _ => {}
            }
        }
        assert_eq!(stripped, plain);
    }

    #[test]
    fn long_reasons_are_broken_and_lose_no_word() {
        let mut text = String::new();
        let words = "word ".repeat(60);
        paragraph(&mut text, "  kernel        ", words.trim_end()).unwrap();
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert_eq!(text.split_whitespace().count(), 61);
        assert!(text.lines().skip(1).all(|line| line.starts_with("                word")));
    }

    #[test]
    fn what_is_not_verified_is_called_not_proven() {
        assert_eq!(summary(&nothing(), Signed::Now).len(), 1);
        assert!(summary(&nothing(), Signed::Now)[0].1.contains("the kernel"));
    }
}
