//! One finding: which check, how grave, what it saw, what it expected, and what to do.

use std::error::Error;

use serde::Serialize;

use crate::Check;

/// What a finding does to the verdict; the gravest comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Refuses.
    Fatal,
    /// Holds levels down; refuses nothing by itself.
    Cap,
    /// Changes nothing, and somebody should look at it.
    Warning,
    /// Changes nothing.
    Info,
}

impl Severity {
    /// Returns the word that results print.
    pub const fn as_str(self) -> &'static str {
        match self {
            Severity::Fatal => "fatal",
            Severity::Cap => "cap",
            Severity::Warning => "warning",
            Severity::Info => "info",
        }
    }
}

/// What one check found, in a form that a person can act on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    #[serde(rename = "id")]
    check: Check,
    severity: Severity,
    subject: &'static str,
    seen: String,
    wanted: String,
    help: String,
}

impl Finding {
    /// Makes a finding with the check's own subject, expectation and help. What was seen may be text of a peer.
    pub fn new(check: impl Into<Check>, severity: Severity, seen: impl ToString) -> Finding {
        let check = check.into();
        Finding {
            check,
            severity,
            subject: check.subject(),
            seen: seen.to_string(),
            wanted: check.wanted().to_owned(),
            help: check.help().to_owned(),
        }
    }

    /// Makes the finding of a verification that failed: what was seen is the error with its sources. Always fatal.
    pub fn of_verification(check: impl Into<Check>, error: &(dyn Error + 'static)) -> Finding {
        let mut seen = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !seen.contains(&cause_text) {
                seen = format!("{seen}: {cause_text}");
            }
            source = cause.source();
        }
        Finding::new(check, Severity::Fatal, seen)
    }

    /// Names a subject that is more exact than the check's own.
    pub fn about(&mut self, subject: &'static str) -> &mut Finding {
        self.subject = subject;
        self
    }

    /// States what the policy, or another piece of evidence, expects here.
    pub fn wanting(&mut self, wanted: impl ToString) -> &mut Finding {
        self.wanted = wanted.to_string();
        self
    }

    /// Gives advice that knows more of this case than the check does.
    pub fn advising(&mut self, help: impl Into<String>) -> &mut Finding {
        self.help = help.into();
        self
    }

    /// Returns the same finding as one that refuses.
    #[must_use]
    pub fn refusing(self) -> Finding {
        Finding { severity: Severity::Fatal, ..self }
    }

    /// Returns the check that made it: compare this, not the id.
    pub fn check(&self) -> Check {
        self.check
    }
    /// Whether this check made it.
    pub fn is(&self, check: impl Into<Check>) -> bool {
        self.check == check.into()
    }
    /// Returns the check's printed id.
    pub fn id(&self) -> &'static str {
        self.check.id()
    }
    /// Returns how grave it is.
    pub fn severity(&self) -> Severity {
        self.severity
    }
    /// Returns what was looked at.
    pub fn subject(&self) -> &'static str {
        self.subject
    }
    /// Returns what was seen.
    pub fn seen(&self) -> &str {
        &self.seen
    }
    /// Returns what was expected.
    pub fn wanted(&self) -> &str {
        &self.wanted
    }
    /// Returns what to do.
    pub fn help(&self) -> &str {
        &self.help
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EndorsementCheck;

    #[derive(Debug)]
    struct Outer(std::num::ParseIntError);

    impl std::fmt::Display for Outer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("the chain does not hold")
        }
    }

    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn a_refusal_of_verify_is_fatal_and_tells_every_cause() {
        let finding = Finding::of_verification(EndorsementCheck::Chain, &Outer("x".parse::<u8>().unwrap_err()));
        assert_eq!(finding.severity(), Severity::Fatal);
        assert_eq!(finding.seen(), "the chain does not hold: invalid digit found in string");
        assert!(finding.is(EndorsementCheck::Chain) && finding.id() == "E_CHAIN");
        assert_eq!((finding.subject(), finding.help()), (finding.check().subject(), finding.check().help()));
    }
}
