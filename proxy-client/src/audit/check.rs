//! `evident-client audit verify`: reads an audit log, offline, and makes every verdict again from its evidence at its time.
//!
//! What it shows: that no line was changed, taken out of the middle or put in; that the evidence is what the lines name; that the
//! archived policy gives the same verdict, findings and levels on it. What it cannot show: that lines at the end are missing
//! (compare the head with one noted elsewhere), and that a TPM answered a credential (`ak_witnessed`: the line is the witness).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use ratls::appraise::{AttestationResult, Finding, appraise};
use ratls::bundle::MAX_BUNDLE;
use ratls::digest::Sha256Digest;
use ratls::time::UnixTime;
use ratls::verify::{Channel, verify_bundle};

use super::line::{self, Line, VERSION};
use super::{CURRENT, EVIDENCE, MAX_LINE, archive, rotated};
use crate::tools::policy::LoadedPolicy;

/// Something that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    pub kind: Kind,
    pub what: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The chain or the archive does not hold: somebody changed something.
    Tampered,
    /// It holds, and the same evidence under the same policy comes out otherwise.
    Differs,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Report {
    pub lines: u64,
    pub accepted: u64,
    pub refused: u64,
    pub witnessed: u64,
    pub simulated: u64,
    /// Number of the first line; above 0 where older files were rotated away.
    pub first: Option<u64>,
    pub head: Option<Sha256Digest>,
    pub problems: Vec<Problem>,
}

/// Problems that are listed; a log that is damaged throughout needs no more.
pub const MAX_PROBLEMS: usize = 100;

/// Reads everything in the folder.
pub fn check(folder: &Path) -> std::io::Result<Report> {
    let mut files: Vec<PathBuf> = rotated(folder)?.into_iter().map(|(_, file)| file).collect();
    let current = folder.join(CURRENT);
    // Between closing one file and beginning the next there is none.
    if current.exists() || files.is_empty() {
        files.push(current);
    }
    let mut walk = Walk { folder, report: Report::default(), next: None, policies: BTreeMap::new() };
    for file in files {
        walk.file(&file)?;
    }
    Ok(walk.report)
}

struct Walk<'a> {
    folder: &'a Path,
    report: Report,
    /// Number and `prev` of the line that must come.
    next: Option<(u64, Sha256Digest)>,
    /// By digest of the policy, and of the list of its files.
    policies: BTreeMap<(Sha256Digest, Sha256Digest), Option<LoadedPolicy>>,
}

impl Walk<'_> {
    fn file(&mut self, file: &Path) -> std::io::Result<()> {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut reader = BufReader::new(File::open(file)?);
        let mut number = 0;
        loop {
            let mut text = Vec::new();
            let limit = u64::try_from(MAX_LINE + 1).unwrap_or(u64::MAX);
            std::io::Read::take(&mut reader, limit).read_until(b'\n', &mut text)?;
            if text.is_empty() {
                return Ok(());
            }
            number += 1;
            let whole = text.pop() == Some(b'\n');
            let parsed = serde_json::from_slice::<Line>(&text);
            let line = match (whole, parsed) {
                (true, Ok(line)) if line.v == VERSION => line,
                _ => {
                    // Nothing behind it can be told apart any more.
                    self.problem(
                        &name,
                        number,
                        Kind::Tampered,
                        "no line of an audit log; the rest of the file is not read",
                    );
                    self.next = None;
                    return Ok(());
                }
            };
            self.line(&name, number, &line);
            self.next = Some((line.seq.saturating_add(1), line::digest(&text)));
            self.report.head = Some(line::digest(&text));
        }
    }

    fn problem(&mut self, file: &str, line: usize, kind: Kind, what: impl Into<String>) {
        if self.report.problems.len() < MAX_PROBLEMS {
            self.report.problems.push(Problem { file: file.to_owned(), line, kind, what: what.into() });
        }
    }

    fn line(&mut self, file: &str, number: usize, line: &Line) {
        self.report.lines += 1;
        self.report.first.get_or_insert(line.seq);
        *(if line.verdict == "accepted" { &mut self.report.accepted } else { &mut self.report.refused }) += 1;
        self.report.witnessed += u64::from(line.ak_witnessed);
        self.report.simulated += u64::from(line.simulated);
        match self.next {
            Some((seq, prev)) if (line.seq, line.prev) != (seq, prev) => {
                let what = if line.seq == seq {
                    "the line before it is not the one that it was chained to".to_owned()
                } else {
                    format!("line number {} where {seq} must come", line.seq)
                };
                self.problem(file, number, Kind::Tampered, what);
            }
            None if line.seq == 0 && line.prev != line::GENESIS => {
                self.problem(file, number, Kind::Tampered, "the first line names one before it");
            }
            _ => {}
        }
        match self.again(line) {
            Ok(None) => {}
            Ok(Some(difference)) => self.problem(file, number, Kind::Differs, difference),
            Err(tampered) => self.problem(file, number, Kind::Tampered, tampered),
        }
    }

    /// The verdict again; what differs, or what is not there.
    fn again(&mut self, line: &Line) -> Result<Option<String>, String> {
        let at = UnixTime::parse_rfc3339(&line.at).map_err(|error| error.to_string())?;
        let path = self.folder.join(EVIDENCE).join(line.evidence.to_string());
        let archived = crate::tools::input::read(&path, MAX_BUNDLE)
            .map_err(|error| format!("the evidence is missing: {error}"))?;
        if line::digest(&archived) != line.evidence {
            return Err(format!("the archived evidence {} was changed", line.evidence));
        }
        let bundle = line::join(&archived, &line.connection, at, line.ak_witnessed)
            .ok_or("the archived evidence is no bundle")?;
        let Some(loaded) = self.policy(line.policy, line.files) else {
            let policy = line.policy;
            return Err(format!("the archived policy {policy}, or a file that it names, is missing or was changed"));
        };
        let result = match verify_bundle(&bundle, &loaded.anchors, at) {
            Ok((mut evidence, _)) => {
                evidence.witnessed_by_reader();
                appraise(Some(&loaded.policy), evidence)
            }
            Err(error) => {
                AttestationResult::refusal(Finding::of_verification(error.check(), &error), Channel::None, None, at)
            }
        };
        let verdict = result.verdict().as_str();
        let fatal = line::fatal(&result);
        if verdict != line.verdict || fatal != line.fatal {
            return Ok(Some(format!(
                "logged as {} ({}), and the evidence comes out as {verdict} ({})",
                line.verdict,
                line.fatal.join(" "),
                fatal.join(" ")
            )));
        }
        let refused_by = result.refused_by().map(|stage| stage.as_str().to_owned());
        if (refused_by.as_ref(), result.simulated()) != (line.refused_by.as_ref(), line.simulated) {
            return Ok(Some(format!(
                "logged as refused by {:?}, simulated {}, and the evidence comes out as refused by {refused_by:?}, simulated {}",
                line.refused_by,
                line.simulated,
                result.simulated()
            )));
        }
        let levels = ratls::appraise::level_words(result.levels_if_fresh());
        if levels != line.levels {
            return Ok(Some(format!("logged with levels {}, and the evidence comes out with {levels}", line.levels)));
        }
        Ok(None)
    }

    fn policy(&mut self, digest: Sha256Digest, files: Sha256Digest) -> Option<&LoadedPolicy> {
        let folder = self.folder;
        self.policies.entry((digest, files)).or_insert_with(|| archive::load(folder, digest, files)).as_ref()
    }
}
