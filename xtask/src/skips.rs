//! Tests that skip say so in one line, `skipped: NAME: REASON`. Nextest keeps the output of tests that pass in its JUnit
//! report; from there the lines are counted and compared with `.ci/expected-skips`, and any other fails the run.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

/// A test that could not look at what it is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SkippedTest {
    name: String,
    reason: String,
    backend: String,
}

impl SkippedTest {
    pub(crate) fn new(name: &str, reason: &str, backend: &str) -> SkippedTest {
        SkippedTest { name: name.to_owned(), reason: reason.to_owned(), backend: backend.to_owned() }
    }
}

impl fmt::Display for SkippedTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.name, self.backend, self.reason)
    }
}

/// Reads the skips out of a JUnit report.
pub(crate) fn of_report(report: &Path, backend: &str) -> Result<Vec<SkippedTest>> {
    let text =
        std::fs::read_to_string(report).with_context(|| format!("reading nextest's report {}", report.display()))?;
    Ok(of_text(&text, backend))
}

fn of_text(report: &str, backend: &str) -> Vec<SkippedTest> {
    let plain = unescaped(report);
    let found = plain.lines().filter_map(|line| {
        let (_, said) = line.split_once("skipped: ")?;
        let (name, reason) = said.split_once(": ")?;
        Some(SkippedTest::new(name.trim(), reason.trim(), backend))
    });
    found.collect::<BTreeSet<_>>().into_iter().collect()
}

/// The five entities of XML; nextest writes no others.
fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'").replace("&amp;", "&")
}

/// The tests that may skip: one per line as `NAME` or `NAME backend`, `#` before a comment.
pub(crate) struct ExpectedSkips {
    allowed: BTreeSet<(String, Option<String>)>,
}

impl ExpectedSkips {
    pub(crate) fn read(path: &Path) -> Result<ExpectedSkips> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        ExpectedSkips::parse(&text)
    }

    fn parse(text: &str) -> Result<ExpectedSkips> {
        let mut allowed = BTreeSet::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let entry = match words.as_slice() {
                [name] => (name.to_string(), None),
                [name, backend] => (name.to_string(), Some(backend.to_string())),
                _ => bail!("expected-skips: {line:?} is neither NAME nor NAME BACKEND"),
            };
            ensure!(allowed.insert(entry), "expected-skips: {line:?} occurs twice");
        }
        Ok(ExpectedSkips { allowed })
    }

    /// Lists every skip, and fails if one is not expected.
    pub(crate) fn compare(&self, skipped: &[SkippedTest]) -> Result<()> {
        println!("{} skipped", skipped.len());
        for test in skipped {
            println!("  {test}");
        }
        let unexpected: Vec<String> =
            skipped.iter().filter(|test| !self.allows(test)).map(ToString::to_string).collect();
        ensure!(unexpected.is_empty(), "these may not skip (.ci/expected-skips): {}", unexpected.join("; "));
        Ok(())
    }

    fn allows(&self, test: &SkippedTest) -> bool {
        self.allowed.contains(&(test.name.clone(), None))
            || self.allowed.contains(&(test.name.clone(), Some(test.backend.clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "<testcase name=\"a\"><system-out>running 1 test\nskipped: a_test: no &quot;tool&quot;\n\
        skipped: a_test: no &quot;tool&quot;\ntest a ... ok</system-out></testcase>";

    #[test]
    fn finds_each_skip_once_with_its_reason() {
        assert_eq!(of_text(REPORT, "ring"), [SkippedTest::new("a_test", "no \"tool\"", "ring")]);
    }

    #[test]
    fn refuses_a_skip_that_is_not_expected_on_this_backend() {
        let skipped = of_text(REPORT, "ring");
        for (expected, passes) in
            [("", false), ("# a_test", false), ("a_test", true), ("a_test ring", true), ("a_test aws-lc-rs", false)]
        {
            let expected = ExpectedSkips::parse(expected).unwrap();
            assert_eq!(expected.compare(&skipped).is_ok(), passes);
        }
        assert!(ExpectedSkips::parse("a b c").is_err());
        assert!(ExpectedSkips::parse("a\na").is_err());
    }
}
