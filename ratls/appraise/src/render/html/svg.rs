//! The trust table as a picture: circles filled by a quarter per level, black under the AMD-SP and grey under the vTPM
//! (docs/table-1.md shows one).
//!
//! Shape and text carry everything, so that it can be read without colour; the picture's label says it all in words.

use std::fmt::Write;

use super::markup::escape;
use crate::levels::{Cell, Component, Level, Levels, Row};
use verify::Root;

/// Whether the picture is a file of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standalone<'a> {
    /// It brings its style sheet, and says this under the table; nothing if it is empty.
    Yes { notice: &'a str },
    /// The page around it has both.
    No,
}

const HEAD: u32 = 34;
const ROW: u32 = 62;
const ROOT_COLUMN: u32 = 84;
const COLUMN: u32 = 118;
const NOTICE: u32 = 30;
const RADIUS: u32 = 12;
/// Of a name's characters at 14 px.
const CHARACTER: u32 = 8;
/// Longer names run out of their column.
const MAX_NAME: usize = 64;
const STRING: &str = "writing to a string does not fail";

/// One row per deployment; a name may be empty.
pub fn svg(rows: &[(&str, &Levels)], standalone: Standalone<'_>) -> String {
    let longest = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let names = if longest == 0 { 0 } else { small(longest.min(MAX_NAME)) * CHARACTER + 24 };
    let width = names + 2 * ROOT_COLUMN + 4 * COLUMN;
    let table = HEAD + ROW * small(rows.len()) + 2;
    let (style, notice) = match standalone {
        Standalone::Yes { notice } => (STYLE, notice),
        Standalone::No => ("", ""),
    };
    let height = table + if notice.is_empty() { 0 } else { NOTICE };
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" aria-label=\"{}\">\n",
        escape(format!("{} {notice}", label(rows)).trim_end())
    );
    if !style.is_empty() {
        writeln!(out, "<style>\n{style}</style>\n<rect class=\"paper\" width=\"{width}\" height=\"{height}\"/>")
            .expect(STRING);
    }
    let head = ["AMD-SP", "vTPM"].into_iter().chain(Component::ALL.map(Component::heading));
    for (i, name) in head.enumerate() {
        text(&mut out, column(names, i), 21, 13, "dim", name);
    }
    for (i, (name, levels)) in rows.iter().enumerate() {
        let top = HEAD + ROW * small(i);
        writeln!(out, "<line class=\"rule\" x1=\"0\" y1=\"{top}\" x2=\"{width}\" y2=\"{top}\"/>").expect(STRING);
        if !name.is_empty() {
            let y = top + ROW / 2 + 5;
            writeln!(out, "<text class=\"ink\" x=\"8\" y=\"{y}\" font-size=\"14\">{}</text>", escape(name))
                .expect(STRING);
        }
        for (i, row) in [levels.amd_sp(), levels.vtpm()].into_iter().enumerate() {
            let class = row.as_str();
            text(&mut out, column(names, i), top + ROW / 2 + 7, 20, class, &row.glyph().to_string());
        }
        for (i, cell) in levels.cells().iter().enumerate() {
            circle(&mut out, column(names, i + 2), top + 24, cell);
        }
    }
    if !notice.is_empty() {
        text(&mut out, width / 2, table + 18, 13, "failed", notice);
    }
    out.push_str("</svg>\n");
    out
}

/// The style sheet of a picture that is a file.
const STYLE: &str = "\
.paper { fill: #ffffff } .ink, .amd { fill: #16181d } .dim, .none, .absent { fill: #5c6370 } .vtpm { fill: #9aa0ab }
.ring { fill: none; stroke: #5c6370 } .ring-amd { fill: none; stroke: #16181d } .ring-vtpm { fill: none; stroke: #9aa0ab }
.rule { stroke: #d9dce1 } .ok { fill: #1a7f37 } .failed { fill: #b42318 } text { font-family: system-ui, sans-serif }
@media (prefers-color-scheme: dark) {
.paper { fill: #14161a } .ink, .amd { fill: #f2f3f5 } .dim, .none, .absent { fill: #9aa2af } .vtpm { fill: #727a87 }
.ring { stroke: #9aa2af } .ring-amd { stroke: #f2f3f5 } .ring-vtpm { stroke: #727a87 }
.rule { stroke: #343941 } .ok { fill: #56d364 } .failed { fill: #ff7b72 }
}
";

/// The middle of a column.
fn column(names: u32, index: usize) -> u32 {
    match small(index) {
        root @ 0..=1 => names + root * ROOT_COLUMN + ROOT_COLUMN / 2,
        component => names + 2 * ROOT_COLUMN + (component - 2) * COLUMN + COLUMN / 2,
    }
}

/// Rows, columns and letters are few.
fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX).min(10_000)
}

fn text(out: &mut String, x: u32, y: u32, size: u32, class: &str, content: &str) {
    writeln!(
        out,
        "<text class=\"{class}\" x=\"{x}\" y=\"{y}\" font-size=\"{size}\" text-anchor=\"middle\">{}</text>",
        escape(content)
    )
    .expect(STRING);
}

/// The circle, and the level and its root under it.
fn circle(out: &mut String, x: u32, y: u32, cell: &Cell) {
    let class = cell.anchor().map_or("none", class);
    let ring = cell.anchor().map_or("ring".to_owned(), |root| format!("ring-{}", self::class(root)));
    writeln!(out, "<g><title>{}</title>", escape(cell.why())).expect(STRING);
    match cell.level() {
        Level::L0 => {}
        Level::L4 => writeln!(out, "<circle class=\"{class}\" cx=\"{x}\" cy=\"{y}\" r=\"{RADIUS}\"/>").expect(STRING),
        level => {
            // From the top clockwise: where a quarter, a half and three quarters end.
            let (to_x, to_y) = match level {
                Level::L1 => (x + RADIUS, y),
                Level::L2 => (x, y + RADIUS),
                _ => (x - RADIUS, y),
            };
            let large = u8::from(level == Level::L3);
            writeln!(
                out,
                "<path class=\"{class}\" d=\"M{x} {y} L{x} {} A{RADIUS} {RADIUS} 0 {large} 1 {to_x} {to_y} Z\"/>",
                y - RADIUS
            )
            .expect(STRING);
        }
    }
    writeln!(out, "<circle class=\"{ring}\" cx=\"{x}\" cy=\"{y}\" r=\"{RADIUS}\"/>").expect(STRING);
    let anchor = cell.anchor().map_or(String::new(), |root| format!(" {}", root.as_str()));
    text(out, x, y + 27, 12, "dim", &format!("{}{anchor}", cell.level()));
    out.push_str("</g>\n");
}

fn class(root: Root) -> &'static str {
    match root {
        Root::AmdSp => "amd",
        Root::Vtpm => "vtpm",
    }
}

/// Everything that the picture shows, for those who do not see it.
fn label(rows: &[(&str, &Levels)]) -> String {
    let said = |row: Row| match row {
        Row::Ok => "ok",
        Row::Failed => "failed",
        Row::Absent => "none",
    };
    let mut out = String::from("Trust table.");
    for (name, levels) in rows {
        if !name.is_empty() {
            write!(out, " {name}:").expect(STRING);
        }
        write!(out, " AMD-SP {}, vTPM {}", said(levels.amd_sp()), said(levels.vtpm())).expect(STRING);
        for cell in levels.cells() {
            let anchor = cell.anchor().map_or(String::new(), |root| format!(" by {}", root.as_str()));
            write!(out, ", {} {}{anchor}", cell.component().heading(), cell.level()).expect(STRING);
        }
        out.push('.');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::levels::{Claim, Cover, Inputs, Matched, Provenance, RootState, View, judge};
    use verify::Link;

    fn levels() -> Levels {
        let claim = |component, link| Claim {
            component,
            root: Root::AmdSp,
            link,
            cover: Cover::Full,
            matched: Matched::Digest(Provenance::Own),
            measured_by: vec![],
            says: vec![],
            notes: vec!["<b>note</b>".to_owned()],
        };
        let claims = vec![claim(Component::Firmware, Link::Direct)];
        judge(&Inputs { amd_sp: RootState::sound(), vtpm: None, claims }, View::Strict)
    }

    #[test]
    fn the_picture_says_in_words_what_it_shows() {
        let picture = svg(&[("a <guest>", &levels())], Standalone::Yes { notice: "<notice>" });
        assert!(picture.contains("firmware L2 by amd-sp, other boot L0"), "{picture}");
        assert!(picture.contains("a &lt;guest&gt;") && !picture.contains("<guest>") && !picture.contains("<b>"));
        assert!(picture.contains("prefers-color-scheme: dark"));
        assert_eq!(picture.matches("&lt;notice&gt;").count(), 2, "drawn, and in the label");
        assert!(!svg(&[("", &levels())], Standalone::No).contains("<style"));
    }

    #[test]
    fn a_level_is_a_filled_part_of_the_circle() {
        let picture = svg(&[("", &levels())], Standalone::No);
        assert_eq!(picture.matches("<path class=\"amd\"").count(), 1, "{picture}");
        assert_eq!(picture.matches("class=\"ring\"").count(), 3, "three components at level 0");
    }
}
