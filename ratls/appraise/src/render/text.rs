//! A result for people: the verdict first, the trust table and what it comes to, every reason with what to do, then what was seen.
//!
//! Everything that came from the peer is printed escaped, so that no name or certificate text can write to the terminal.

use std::borrow::Cow;
use std::fmt::{self, Write};

use super::advisories;
use super::paint::Paint;
use super::platform_words;
use super::terminal;
use crate::result::{AttestationResult, Stage, Subject, Verdict};
use findings::{Finding, Severity};
use formats::evidence::snp::{SigningKey, TcbKind};
use formats::text::Untrusted;
use measure::measured_boot::Boot;
use verify::{Channel, Freshness};

/// Stands first wherever a simulated result is shown.
pub const SIMULATED: &str = "SIMULATED, PROVES NOTHING";

const AGE: &str = "How old the hardware's report is, is unknown.";

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
        terminal::table(f, &self.table_rows(), paint)?;
        terminal::legend(f)?;
        writeln!(f)?;
        terminal::summary_lines(f, self.telling_levels(), self.signed())?;
        writeln!(f)?;
        terminal::reasons(f, self.telling_levels())
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
        for line in advisories::lines(self) {
            writeln!(f, "  {line}")?;
        }
        if self.simulated() {
            writeln!(f, "{}", paint.with(Paint::WARNING, SIMULATED))?;
        }
        Ok(())
    }

    pub(super) fn signed(&self) -> terminal::Signed {
        match (self.simulated(), self.channel) {
            (true, _) => terminal::Signed::BySimulator,
            (false, Channel::None) => terminal::Signed::Once,
            (false, Channel::Exporter | Channel::Key) => terminal::Signed::Now,
        }
    }

    /// The verdict, and whose.
    pub(super) fn headline(&self) -> String {
        let reasons = self.findings.iter().filter(|f| f.severity() == Severity::Fatal).count();
        let reasons = if reasons == 1 { "1 reason".to_owned() } else { format!("{reasons} reasons") };
        match (self.verdict, &self.policy) {
            (Verdict::Accepted, Some(policy)) => format!("ACCEPTED by {}", Untrusted(&policy.file)),
            (Verdict::Accepted, None) => "ACCEPTED".to_owned(),
            (Verdict::Authentic, _) => "AUTHENTIC; no policy was asked whether to accept it".to_owned(),
            (Verdict::Refused(Stage::Appraise), Some(policy)) => {
                format!("REFUSED: authentic, but not accepted by {}: {reasons}", Untrusted(&policy.file))
            }
            (Verdict::Refused(Stage::Appraise), None) => {
                format!("REFUSED: authentic, but never acceptable: {reasons}")
            }
            (Verdict::Refused(Stage::Verify), _) => "REFUSED: not authentic".to_owned(),
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
            _ if matches!(self.subject, Subject::Pieces(_)) => {
                "These pieces are genuine; without a report they are of no machine that the AMD-SP knows."
            }
            (Verdict::Refused(Stage::Verify), _, _) => "None of the evidence can be believed.",
            (Verdict::Refused(Stage::Appraise), _, _) => "The hardware signed this, and it is not what you accept.",
            (_, Channel::Exporter, Freshness::Connect) => terminal::whose_connection(self.levels()),
            (_, Channel::Exporter, _) => {
                return format!("{} {AGE}", terminal::whose_connection(self.levels())).into();
            }
            (_, Channel::Key, _) => terminal::whose_key(self.levels_if_fresh()),
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
        let Some(evidence) = self.evidence() else { return Vec::new() };
        let (report, vek) = (evidence.report().report(), evidence.report().vek());
        let layout = vek.product().layout();
        let mut rows = Vec::new();
        let mut row = |name, value: String| rows.push((name, value));
        row("profile", format!("{}, {}, report version {}", evidence.profile(), vek.product(), report.version()));
        row("channel", self.channel_words());
        if let Some(tpm) = evidence.tpm() {
            row("vtpm", platform_words::vtpm(tpm));
        }
        for (name, text) in platform_words::machine(evidence) {
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
