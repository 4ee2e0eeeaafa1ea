//! A result for people: one screen, the verdict first, then every reason with what to do, then what was seen.
//!
//! Everything that came from the peer is printed escaped, so that no name or certificate text can write to the terminal.

use std::fmt::{self, Write};

use super::finding::{Finding, Severity};
use super::result::{AttestationResult, Stage, Verdict};
use crate::evidence::snp::{SigningKey, TcbKind};
use crate::verify::{Channel, Freshness, VerifiedEvidence};

/// Stands first wherever a simulated result is shown.
pub const SIMULATED: &str = "SIMULATED, PROVES NOTHING";

impl fmt::Display for AttestationResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.simulated() {
            writeln!(f, "{SIMULATED}")?;
        }
        writeln!(f, "{}", self.headline())?;
        writeln!(f, "{}", self.sentence())?;
        if !self.findings.is_empty() {
            writeln!(f)?;
        }
        for finding in &self.findings {
            write!(f, "{}", Entry(finding))?;
        }
        if let Some(evidence) = &self.evidence {
            writeln!(f)?;
            self.table(f, evidence)?;
        }
        if self.simulated() {
            writeln!(f, "{SIMULATED}")?;
        }
        Ok(())
    }
}

impl AttestationResult {
    fn headline(&self) -> String {
        let reasons = self.findings.iter().filter(|f| f.severity == Severity::Fatal).count();
        let reasons = if reasons == 1 { "1 reason".to_owned() } else { format!("{reasons} reasons") };
        match (self.verdict, self.refused_by, &self.policy) {
            (Verdict::Accepted, _, Some(policy)) => format!("ACCEPTED by {}", escape(&policy.file)),
            (Verdict::Accepted, _, None) => "ACCEPTED".to_owned(),
            (Verdict::Authentic, ..) => "AUTHENTIC; no policy was asked whether to accept it".to_owned(),
            (Verdict::Refused, Some(Stage::Appraise), Some(policy)) => {
                format!("REFUSED: authentic, but not accepted by {}: {reasons}", escape(&policy.file))
            }
            (Verdict::Refused, Some(Stage::Appraise), None) => {
                format!("REFUSED: authentic, but never acceptable: {reasons}")
            }
            (Verdict::Refused, ..) => "REFUSED: not authentic".to_owned(),
        }
    }

    /// One sentence that says no more than what was proven.
    pub fn sentence(&self) -> &'static str {
        if self.simulated() {
            return "The evidence was made by software; there is no guest.";
        }
        match (self.verdict, self.channel, self.hw_freshness()) {
            (Verdict::Refused, _, _) if self.evidence.is_none() => "Nothing of the evidence can be believed.",
            (Verdict::Refused, ..) => "The hardware signed this, and it is not what you accept.",
            (_, Channel::Exporter, Freshness::Connect) => {
                "This connection ends inside the attested guest: hardware signed it after the connection began."
            }
            (_, Channel::Exporter, _) => {
                "This connection ends inside the attested guest; how old the evidence is, is unknown."
            }
            (_, Channel::Key, _) => {
                "The TLS key was made inside the attested guest; whoever holds the key now may be elsewhere."
            }
            (_, Channel::None, _) => "This proves what was signed, not who is on the other end of a connection.",
        }
    }

    fn table(&self, f: &mut fmt::Formatter<'_>, evidence: &VerifiedEvidence) -> fmt::Result {
        let (report, vek) = (evidence.report().report(), evidence.report().vek());
        let layout = vek.product().layout();
        let mut row = |name: &str, value: &dyn fmt::Display| writeln!(f, "  {name:<13} {}", escape(&value.to_string()));
        row(
            "profile",
            &format_args!("{}, {}, report version {}", evidence.profile(), vek.product(), report.version()),
        )?;
        row("channel", &format_args!("{}, hardware signed: {}", self.channel.as_str(), self.hw_freshness().as_str()))?;
        row("identity", &self.identity.as_str())?;
        row("measurement", report.measurement())?;
        row("report_data", report.report_data())?;
        row(
            "guest policy",
            &format_args!("{}, vmpl {}, guest_svn {}", report.policy(), report.vmpl(), report.guest_svn()),
        )?;
        row("platform info", &report.platform_info())?;
        for kind in [TcbKind::Reported, TcbKind::Committed, TcbKind::Current, TcbKind::Launch] {
            row(&format!("tcb {kind}"), &report.tcb(kind, layout))?;
        }
        match report.signing_key() {
            SigningKey::Vlek => row("signed by", &format_args!("VLEK of {}", vek.csp().unwrap_or("an unnamed cloud")))?,
            key => row("signed by", &format_args!("{key} of chip {}", report.chip_id()))?,
        }
        if !report.host_data().is_zero() {
            row("host_data", report.host_data())?;
        }
        if !report.id_key_digest().is_zero() {
            row("id key", report.id_key_digest())?;
        }
        if let Some(statement) = evidence.statement() {
            row("config", &statement.config)?;
            if !statement.names.is_empty() {
                row("names", &statement.names.join(", "))?;
            }
        }
        row("levels", &"not yet judged")?;
        row("at", &self.at)?;
        if let Some(expires) = self.expires() {
            row("good until", &expires)?;
        }
        Ok(())
    }
}

struct Entry<'a>(&'a Finding);

impl fmt::Display for Entry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding { id, severity, subject, seen, wanted, help } = self.0;
        writeln!(f, "  {:<8}{id}  {subject}: {}", severity.as_str().to_uppercase(), escape(seen))?;
        if *severity <= Severity::Cap {
            writeln!(f, "          wanted: {}", escape(wanted))?;
        }
        if !help.is_empty() {
            writeln!(f, "          {}", escape(help))?;
        }
        Ok(())
    }
}

/// Control and direction-changing characters as `\u{…}`.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let turns = matches!(c, '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || turns {
            write!(out, "{}", c.escape_unicode()).expect("writing to a string does not fail");
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_the_peer_cannot_write_to_the_terminal() {
        assert_eq!(escape("a\u{1b}[31m\u{202e}b\nc é"), "a\\u{1b}[31m\\u{202e}b\\u{a}c é");
    }
}
