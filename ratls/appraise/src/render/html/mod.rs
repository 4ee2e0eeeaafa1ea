//! A result as HTML with inline SVG: for the local page and for a file to hand to an auditor.
//!
//! Server-rendered, no script, nothing fetched. Whatever a peer or a file wrote is text here and never markup: every value
//! goes through [`escape`]. Light and dark come from the style sheet, so the markup carries classes and no colours.

mod markup;
mod svg;

use std::fmt::Write;

pub use markup::escape;
pub use svg::{Standalone, svg};

use super::advisories;
use super::terminal::{MEANING, summary};
use super::text::SIMULATED;
use crate::levels::{Cell, Levels};
use crate::result::{AttestationResult, Verdict};
use findings::{Finding, Severity};
use formats::text::json_for_people;
use markup::markup;

/// The style sheet of everything that is made here.
pub const STYLE: &str = include_str!("style.css");

/// A whole page in one file. `title` is text; `content` is markup made here.
pub fn document(title: &str, content: &str) -> String {
    let head = format!(
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <style>\n{STYLE}</style>\n"
    );
    page(title, &head, content)
}

/// A page whose style sheet, [`STYLE`], is served at `style`.
pub fn linked(title: &str, style: &str, content: &str) -> String {
    page(title, &format!("<link rel=\"stylesheet\" href=\"{}\">\n", escape(style)), content)
}

fn page(title: &str, head: &str, content: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n{head}\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{}</title>\n</head>\n\
         <body>\n<main>\n{content}</main>\n</body>\n</html>\n",
        escape(title)
    )
}

/// The report of one result as a file of its own. `subject` says what was looked at: a guest's address or a file's name.
pub fn report(result: &AttestationResult, subject: &str) -> String {
    let mut content = format!("<h1>Attestation report</h1>\n{}", section(result, subject));
    let json = serde_json::to_string_pretty(&result.to_json()).expect("JSON values print");
    write!(
        content,
        "<details>\n<summary>All of it, as JSON</summary>\n<pre>{}</pre>\n</details>\n",
        markup(&json_for_people(&json))
    )
    .expect(STRING);
    document(&format!("Attestation report: {subject}"), &content)
}

const STRING: &str = "writing to a string does not fail";

/// One result as a section: verdict, table, reasons, findings, and what was seen.
pub fn section(result: &AttestationResult, subject: &str) -> String {
    let mut out = String::new();
    let verdict = result.verdict();
    let class = match verdict {
        Verdict::Accepted if !result.simulated() => "good",
        Verdict::Accepted | Verdict::Authentic => "open",
        Verdict::Refused(_) => "bad",
    };
    let simulated =
        if result.simulated() { format!("<p class=\"simulated\">{SIMULATED}</p>\n") } else { String::new() };
    writeln!(
        out,
        "<section class=\"guest\">\n{simulated}<h2><span class=\"verdict {class}\">{}</span> {}</h2>\n\
         <p class=\"headline\">{}</p>\n<p>{}</p>",
        verdict.as_str(),
        escape(subject),
        escape(&result.headline()),
        escape(&result.sentence())
    )
    .expect(STRING);
    out.push_str(&table(result));
    out.push_str(&findings(result.findings()));
    out.push_str(&seen(result));
    out.push_str(&advisory_list(result));
    if result.simulated() {
        writeln!(out, "<p class=\"simulated\">{SIMULATED}</p>").expect(STRING);
    }
    out.push_str("</section>\n");
    out
}

/// The summary, and what is not met.
fn advisory_list(result: &AttestationResult) -> String {
    let lines = advisories::lines(result);
    let Some((summary, rest)) = lines.split_first() else { return String::new() };
    let mut out = format!("<h3>Advisories</h3>\n<p>{}</p>\n<ul class=\"advisories\">\n", escape(summary));
    for line in rest {
        writeln!(out, "<li>{}</li>", escape(line.trim())).expect(STRING);
    }
    out.push_str("</ul>\n");
    out
}

/// The picture, what it comes to, and each cell's reason.
fn table(result: &AttestationResult) -> String {
    let rows = result.table_rows();
    let rows: Vec<(&str, &Levels)> = rows.iter().map(|(name, levels)| (*name, *levels)).collect();
    let shown = result.telling_levels();
    let mut out = format!("<figure>\n{}{}</figure>\n", svg(&rows, Standalone::No), legend());
    out.push_str("<dl class=\"summary\">\n");
    for (heading, text) in summary(shown, result.signed()) {
        writeln!(out, "<dt>{}</dt><dd>{}</dd>", escape(heading), escape(&text)).expect(STRING);
    }
    out.push_str("</dl>\n<table class=\"why\">\n");
    for cell in shown.cells() {
        writeln!(
            out,
            "<tr><th scope=\"row\">{}</th><td>{}{}</td></tr>",
            cell.component().heading(),
            escape(cell.why()),
            proof(cell)
        )
        .expect(STRING);
    }
    out.push_str("</table>\n");
    out
}

/// The files behind a cell, and who rebuilt them.
fn proof(cell: &Cell) -> String {
    let Some(proof) = cell.proof() else { return String::new() };
    let mut out = format!("<ul class=\"proof\"><li>recipe: {}</li>", escape(proof.recipe()));
    for artefact in proof.in_hand() {
        write!(
            out,
            "<li>{} {}: SHA-256 <code>{}</code></li>",
            artefact.part.as_str(),
            escape(&artefact.name),
            artefact.sha256
        )
        .expect(STRING);
    }
    for rebuild in cell.source().iter().flat_map(|source| source.rebuilds()) {
        let by = escape(&rebuild.by().join(", "));
        write!(out, "<li>rebuilt from {} by {by}</li>", escape(rebuild.source())).expect(STRING);
    }
    out.push_str("</ul>");
    out
}

fn legend() -> String {
    let items: Vec<String> = MEANING
        .iter()
        .map(|(level, text)| format!("<li><span class=\"glyph\">{}</span> {level} {text}</li>", level.glyph()))
        .collect();
    format!(
        "<figcaption><ul class=\"legend\">{}<li><span class=\"key amd\"></span> anchored in the AMD-SP</li>\
         <li><span class=\"key vtpm\"></span> anchored in the vTPM</li></ul></figcaption>\n",
        items.concat()
    )
}

fn findings(findings: &[Finding]) -> String {
    if findings.is_empty() {
        return String::new();
    }
    let mut out = String::from("<h3>Findings</h3>\n<table class=\"findings\">\n");
    for finding in findings {
        let wanted = if finding.severity() <= Severity::Cap {
            format!("<br><span class=\"quiet\">wanted: {}</span>", escape(finding.wanted()))
        } else {
            String::new()
        };
        writeln!(
            out,
            "<tr><td><span class=\"severity {0}\">{0}</span></td><td><code>{1}</code></td>\
             <td><b>{2}</b>: {3}{wanted}<br><span class=\"quiet\">{4}</span></td></tr>",
            finding.severity().as_str(),
            escape(finding.id()),
            escape(finding.subject()),
            escape(finding.seen()),
            escape(finding.help())
        )
        .expect(STRING);
    }
    out.push_str("</table>\n");
    out
}

fn seen(result: &AttestationResult) -> String {
    let mut rows = result.seen();
    rows.extend(result.policy_digest().map(|digest| ("policy", format!("sha256 {digest}"))));
    if rows.is_empty() {
        return String::new();
    }
    let mut out = String::from("<details>\n<summary>What was seen</summary>\n<table class=\"seen\">\n");
    for (name, value) in rows {
        writeln!(out, "<tr><th scope=\"row\">{}</th><td><code>{}</code></td></tr>", escape(name), escape(&value))
            .expect(STRING);
    }
    out.push_str("</table>\n</details>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_peer_wrote_is_markup() {
        assert_eq!(
            escape("<script>alert('x')</script>&\"\u{202e}\u{1b}"),
            "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;&quot;\\u{202e}\\u{1b}"
        );
        assert_eq!(markup("{\n<"), "{\n&lt;", "JSON on a page keeps its lines");
        let page = document("<b>\"", "<p>content</p>\n");
        assert!(page.contains("<title>&lt;b&gt;&quot;</title>"));
        assert!(page.contains("default-src 'none'"));
        assert!(!page.contains("<script"));
    }

    #[test]
    fn the_style_sheet_knows_light_and_dark_and_fetches_nothing() {
        assert!(STYLE.contains("prefers-color-scheme: dark"));
        for fetches in ["url(", "@import", "http"] {
            assert!(!STYLE.contains(fetches), "{fetches}");
        }
    }
}
