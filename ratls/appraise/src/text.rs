//! A result for people: the verdict first, the trust table and what it comes to, every reason with what to do, then what was seen.
//!
//! Everything that came from the peer is printed escaped, so that no name or certificate text can write to the terminal.

use std::borrow::Cow;
use std::fmt::{self, Write};

use super::levels::Row;
use super::result::{AttestationResult, Stage, Verdict};
use super::strip;
use findings::{Finding, Severity};
use formats::evidence::snp::{SigningKey, TcbKind};
use formats::text::Untrusted;
use measure::measured_boot::Boot;
use verify::{Channel, Freshness, Root};

/// Stands first wherever a simulated result is shown.
pub const SIMULATED: &str = "SIMULATED, PROVES NOTHING";

const AGE: &str = "How old the hardware's report is, is unknown.";

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
    const WARNING: &'static str = "1;31";

    fn with(self, code: &str, text: &str) -> String {
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

    fn severity(self, severity: Severity, text: &str) -> String {
        match severity {
            Severity::Fatal => self.with(Self::RED, text),
            Severity::Cap | Severity::Warning => self.with(Self::YELLOW, text),
            Severity::Info => text.to_owned(),
        }
    }

    fn verdict(self, verdict: Verdict, text: &str) -> String {
        match verdict {
            Verdict::Accepted => self.with(Self::GREEN, text),
            Verdict::Authentic => self.with(Self::YELLOW, text),
            Verdict::Refused => self.with(Self::RED, text),
        }
    }
}

/// Plain, as for a file or a pipe.
impl fmt::Display for AttestationResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, Paint::Plain)
    }
}

impl AttestationResult {
    /// The same with or without colours.
    pub fn text(&self, paint: Paint) -> String {
        let mut out = String::new();
        self.write(&mut out, paint).expect("writing to a string does not fail");
        out
    }

    /// The trust table alone, with what it comes to and why.
    pub fn table_text(&self, paint: Paint) -> String {
        let mut out = String::new();
        self.write_table(&mut out, paint).expect("writing to a string does not fail");
        out
    }

    fn write_table(&self, f: &mut impl Write, paint: Paint) -> fmt::Result {
        strip::table(f, &self.table_rows(), paint)?;
        strip::legend(f)?;
        writeln!(f)?;
        strip::summary_lines(f, self.telling_levels(), self.signed())?;
        writeln!(f)?;
        strip::reasons(f, self.telling_levels())
    }

    fn write(&self, f: &mut impl Write, paint: Paint) -> fmt::Result {
        if self.simulated() {
            writeln!(f, "{}", paint.with(Paint::WARNING, SIMULATED))?;
        }
        writeln!(f, "{}", paint.verdict(self.verdict, &self.headline()))?;
        writeln!(f, "{}\n", self.sentence())?;
        f.write_str(&self.table_text(paint))?;
        if !self.findings.is_empty() {
            writeln!(f)?;
        }
        for finding in &self.findings {
            entry(f, finding, paint)?;
        }
        let mut rows = self.seen();
        rows.extend(self.accounts().iter().map(|account| ("piece", account.to_string())));
        rows.extend(self.policy_digest().map(|digest| ("policy", format!("sha256 {digest}"))));
        if !rows.is_empty() {
            writeln!(f)?;
        }
        for (name, value) in rows {
            writeln!(f, "  {name:<13} {}", Untrusted(&value))?;
        }
        if self.simulated() {
            writeln!(f, "{}", paint.with(Paint::WARNING, SIMULATED))?;
        }
        Ok(())
    }

    pub(super) fn signed(&self) -> strip::Signed {
        match (self.simulated(), self.channel) {
            (true, _) => strip::Signed::BySimulator,
            (false, Channel::None) => strip::Signed::Once,
            (false, Channel::Exporter | Channel::Key) => strip::Signed::Now,
        }
    }

    /// The verdict, and whose.
    pub(super) fn headline(&self) -> String {
        let reasons = self.findings.iter().filter(|f| f.severity() == Severity::Fatal).count();
        let reasons = if reasons == 1 { "1 reason".to_owned() } else { format!("{reasons} reasons") };
        match (self.verdict, self.refused_by, &self.policy) {
            (Verdict::Accepted, _, Some(policy)) => format!("ACCEPTED by {}", Untrusted(&policy.file)),
            (Verdict::Accepted, _, None) => "ACCEPTED".to_owned(),
            (Verdict::Authentic, ..) => "AUTHENTIC; no policy was asked whether to accept it".to_owned(),
            (Verdict::Refused, Some(Stage::Appraise), Some(policy)) => {
                format!("REFUSED: authentic, but not accepted by {}: {reasons}", Untrusted(&policy.file))
            }
            (Verdict::Refused, Some(Stage::Appraise), None) => {
                format!("REFUSED: authentic, but never acceptable: {reasons}")
            }
            (Verdict::Refused, ..) => "REFUSED: not authentic".to_owned(),
        }
    }

    /// One sentence that says no more than what was proven.
    pub fn sentence(&self) -> Cow<'static, str> {
        if self.simulated() {
            return "The evidence was made by software; there is no guest.".into();
        }
        self.unsimulated_sentence()
    }

    /// The same, as if the evidence were not simulated.
    pub fn unsimulated_sentence(&self) -> Cow<'static, str> {
        let sentence = match (self.verdict, self.channel, self.hw_freshness()) {
            _ if self.pieces.is_some() => {
                "These pieces are genuine; without a report they are of no machine that the AMD-SP knows."
            }
            (Verdict::Refused, _, _) if self.evidence.is_none() => "Nothing of the evidence can be believed.",
            (Verdict::Refused, ..) => "The hardware signed this, and it is not what you accept.",
            (_, Channel::Exporter, Freshness::Connect) => strip::whose_connection(self.levels()),
            (_, Channel::Exporter, _) => {
                return format!("{} {AGE}", strip::whose_connection(self.levels())).into();
            }
            (_, Channel::Key, _) => strip::whose_key(self.levels_if_fresh()),
            (_, Channel::None, _) => "This proves what was signed, not who is on the other end of a connection.",
        };
        sentence.into()
    }

    /// Whose connection, and when hardware signed; with the words that programs get.
    fn channel_words(&self) -> String {
        let channel = match self.channel {
            Channel::Exporter => "this TLS connection",
            Channel::Key => "the TLS key alone",
            Channel::None => "none, evidence in a file",
        };
        let (signed, freshness) = match self.hw_freshness() {
            Freshness::Connect => ("after it began", "connect"),
            Freshness::Within => ("within the policy's time", "within"),
            Freshness::Stale => ("nobody knows when", "stale"),
            Freshness::None => ("for no connection", "none"),
        };
        format!("{channel} ({}); hardware signed {signed} ({freshness})", self.channel.as_str())
    }

    /// What the evidence holds, by name; empty where none of it can be believed. Not escaped.
    pub fn seen(&self) -> Vec<(&'static str, String)> {
        let Some(evidence) = &self.evidence else { return Vec::new() };
        let (report, vek) = (evidence.report().report(), evidence.report().vek());
        let layout = vek.product().layout();
        let mut rows = Vec::new();
        let mut row = |name, value: String| rows.push((name, value));
        row("profile", format!("{}, {}, report version {}", evidence.profile(), vek.product(), report.version()));
        row("channel", self.channel_words());
        if let Some(tpm) = evidence.tpm() {
            row("vtpm", super::platform_words::vtpm(tpm));
        }
        for (name, text) in super::platform_words::machine(evidence) {
            row(name, text);
        }
        row("identity", self.identity.as_str().to_owned());
        row("measurement", report.measurement().to_string());
        row("report_data", report.report_data().to_string());
        let policy = report.policy();
        row("guest policy", format!("{policy}, vmpl {}, guest_svn {}", report.vmpl(), report.guest_svn()));
        row("platform info", report.platform_info().to_string());
        for (name, kind) in [
            ("tcb reported", TcbKind::Reported),
            ("tcb committed", TcbKind::Committed),
            ("tcb current", TcbKind::Current),
            ("tcb launch", TcbKind::Launch),
        ] {
            row(name, report.tcb(kind, layout).to_string());
        }
        row(
            "signed by",
            match report.signing_key() {
                SigningKey::Vlek => format!("VLEK of {}", vek.csp().unwrap_or("an unnamed cloud")),
                key => format!("{key} of chip {}", report.chip_id()),
            },
        );
        if !report.host_data().is_zero() {
            row("host_data", report.host_data().to_string());
        }
        if !report.id_key_digest().is_zero() {
            row("id key", report.id_key_digest().to_string());
        }
        if let Some(statement) = evidence.statement() {
            row("config", statement.config.to_string());
            if !statement.names.is_empty() {
                row("names", statement.names.join(", "));
            }
        }
        for sentence in self.booted().iter().flat_map(Boot::sentences) {
            row("booted", sentence.text);
        }
        row("at", self.at.to_string());
        if let Some(expires) = self.expires() {
            row("good until", expires.to_string());
        }
        rows
    }
}

fn entry(f: &mut impl Write, finding: &Finding, paint: Paint) -> fmt::Result {
    let severity = finding.severity();
    let word = paint.severity(severity, &format!("{:<8}", severity.as_str().to_uppercase()));
    writeln!(f, "  {word}{}  {}: {}", finding.id(), finding.subject(), Untrusted(finding.seen()))?;
    if severity <= Severity::Cap {
        writeln!(f, "          wanted: {}", Untrusted(finding.wanted()))?;
    }
    if !finding.help().is_empty() {
        writeln!(f, "          {}", Untrusted(finding.help()))?;
    }
    Ok(())
}
