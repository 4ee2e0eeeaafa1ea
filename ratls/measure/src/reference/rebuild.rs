//! Was this file built from that source? Answered by at least k rebuilders whom the policy names, or by a build of one's own.
//!
//! A rebuilder signs an in-toto Statement (in-toto attestation framework, spec/v1/statement.md) in a DSSE envelope; its predicate
//! is SLSA provenance 1 or 0.2, which says from which source. Two statements count together only if they name the same file and
//! the same source. That the rebuilders built honestly and apart from each other is what trusting their keys means.

use serde::Deserialize;
use serde_json::Value;

use super::dsse::{Envelope, EnvelopeError, TrustedKey};
use super::proof::Rebuild;
use formats::digest::Sha256Digest;
use formats::text::Untrusted;

const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const STATEMENT_TYPES: [&str; 2] = ["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"];
const SLSA_1: &str = "https://slsa.dev/provenance/v1";
const SLSA_0_2: &str = "https://slsa.dev/provenance/v0.2";
/// Files of one statement.
const MAX_SUBJECTS: usize = 1024;
/// Longest text that is taken over from a statement into a verdict.
const MAX_SOURCE_CHARS: usize = 300;

/// One of those whom the policy trusts to rebuild.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebuilder {
    pub name: String,
    pub key: TrustedKey,
}

/// Whose statements count, and how many must agree.
#[derive(Clone, Debug)]
pub struct Rebuilders {
    all: Vec<Rebuilder>,
    at_least: usize,
}

/// Why statements prove no rebuild, or rebuilders can be none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RebuildError {
    #[error("at_least = {at_least}, while {named} rebuilders are named")]
    AtLeast { at_least: usize, named: usize },
    #[error("{0} and {1} have the same key: that is one rebuilder")]
    SameKey(String, String),
    #[error("{file}: {source}")]
    Envelope { file: String, source: EnvelopeError },
    #[error("{file}: the payload is of type {seen:?}, wanted {PAYLOAD_TYPE:?}")]
    PayloadType { file: String, seen: String },
    #[error("{file}: the payload is no in-toto statement: {problem}")]
    Statement { file: String, problem: String },
    #[error("{file}: none of its signatures is by a rebuilder whom the policy names")]
    NotSigned { file: String },
    #[error("{file}: the predicate {seen:?} is no SLSA provenance of version 1 or 0.2")]
    Predicate { file: String, seen: String },
    #[error("{file}: the provenance does not say from which source it was built, or not by a digest")]
    NoSource { file: String },
    #[error("no file was rebuilt from one source by {at_least} of the rebuilders; the best has {best}")]
    TooFew { at_least: usize, best: usize },
}

impl Rebuilders {
    pub fn new(all: Vec<Rebuilder>, at_least: usize) -> Result<Rebuilders, RebuildError> {
        if at_least == 0 || at_least > all.len() {
            return Err(RebuildError::AtLeast { at_least, named: all.len() });
        }
        for (i, one) in all.iter().enumerate() {
            if let Some(other) = all.iter().skip(i + 1).find(|other| other.key == one.key) {
                return Err(RebuildError::SameKey(one.name.clone(), other.name.clone()));
            }
        }
        Ok(Rebuilders { all, at_least })
    }

    /// The files that enough rebuilders made from one source. Each of `statements` is a file's name and bytes; each must be
    /// whole, and signed by somebody who is trusted, or all are refused: a statement that counts for nothing is a mistake.
    pub fn check(&self, statements: &[(&str, &[u8])]) -> Result<Vec<Rebuild>, RebuildError> {
        let mut tallies: Vec<Tally> = Vec::new();
        for (file, bytes) in statements {
            let (signers, statement) = self.open(file, bytes)?;
            let source = source(file, &statement)?;
            for sha256 in subjects(file, &statement)? {
                let known = tallies.iter_mut().find(|tally| tally.sha256 == sha256 && tally.source == source);
                match known {
                    Some(tally) => tally.add(&signers),
                    None => tallies.push(Tally { sha256, source: source.clone(), by: signers.clone() }),
                }
            }
        }
        let best = tallies.iter().map(|tally| tally.by.len()).max().unwrap_or(0);
        let enough: Vec<_> = tallies.into_iter().filter(|tally| tally.by.len() >= self.at_least).collect();
        if enough.is_empty() {
            return Err(RebuildError::TooFew { at_least: self.at_least, best });
        }
        Ok(enough.into_iter().map(|tally| Rebuild::checked(tally.sha256, tally.source, tally.by)).collect())
    }

    /// The statement in an envelope, and the names of the rebuilders who signed it.
    fn open(&self, file: &str, bytes: &[u8]) -> Result<(Vec<String>, Statement), RebuildError> {
        let file = || file.to_owned();
        let envelope = Envelope::parse(bytes).map_err(|source| RebuildError::Envelope { file: file(), source })?;
        // Nothing of the payload is read before somebody who is trusted has signed it.
        let signers: Vec<_> =
            self.all.iter().filter(|r| envelope.is_signed_by(&r.key)).map(|r| r.name.clone()).collect();
        if signers.is_empty() {
            return Err(RebuildError::NotSigned { file: file() });
        }
        if envelope.payload_type() != PAYLOAD_TYPE {
            return Err(RebuildError::PayloadType { file: file(), seen: clipped(envelope.payload_type()) });
        }
        let statement: Statement = serde_json::from_slice(envelope.payload())
            .map_err(|e| RebuildError::Statement { file: file(), problem: e.to_string() })?;
        if !STATEMENT_TYPES.contains(&statement.kind.as_str()) {
            let problem = format!("its _type is {:?}", clipped(&statement.kind));
            return Err(RebuildError::Statement { file: file(), problem });
        }
        Ok((signers, statement))
    }
}

/// A build that the policy's author made: the command that was run, from which source, and what came out.
pub fn own_build(command: &str, source: &str, sha256: Sha256Digest) -> Rebuild {
    Rebuild::checked(sha256, source.to_owned(), vec![format!("own build: {command}")])
}

struct Tally {
    sha256: Sha256Digest,
    source: String,
    by: Vec<String>,
}

impl Tally {
    fn add(&mut self, signers: &[String]) {
        for signer in signers {
            if !self.by.contains(signer) {
                self.by.push(signer.clone());
            }
        }
    }
}

#[derive(Deserialize)]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    #[serde(default)]
    predicate: Value,
}

#[derive(Deserialize)]
struct Subject {
    digest: std::collections::BTreeMap<String, String>,
}

/// SHA-256 of each file. A subject without one names nothing that could be compared.
fn subjects(file: &str, statement: &Statement) -> Result<Vec<Sha256Digest>, RebuildError> {
    let refuse = |problem: &str| RebuildError::Statement { file: file.to_owned(), problem: problem.to_owned() };
    if statement.subject.is_empty() || statement.subject.len() > MAX_SUBJECTS {
        return Err(refuse("it has no subject, or more than 1024"));
    }
    let digest = |subject: &Subject| {
        let text = subject.digest.get("sha256").ok_or_else(|| refuse("a subject has no sha256"))?;
        Sha256Digest::from_hex(text).map_err(|_| refuse("a subject's sha256 is not 64 hex digits"))
    };
    statement.subject.iter().map(digest).collect()
}

/// `git+https://… at <commit>`: the first input that is named by URI and digest, which both versions put the source first in.
fn source(file: &str, statement: &Statement) -> Result<String, RebuildError> {
    let predicate = &statement.predicate;
    let inputs = match statement.predicate_type.as_str() {
        SLSA_1 => predicate.pointer("/buildDefinition/resolvedDependencies/0"),
        SLSA_0_2 => predicate.pointer("/invocation/configSource").or_else(|| predicate.pointer("/materials/0")),
        other => return Err(RebuildError::Predicate { file: file.to_owned(), seen: clipped(other) }),
    };
    let named = inputs.and_then(|input| {
        let uri = input.get("uri")?.as_str()?;
        let digests = input.get("digest")?.as_object()?;
        let digest = ["gitCommit", "sha1", "sha256"].into_iter().find_map(|name| digests.get(name)?.as_str())?;
        Some(format!("{} at {}", clipped(uri), clipped(digest)))
    });
    named.filter(|text| !text.starts_with(" at ")).ok_or_else(|| RebuildError::NoSource { file: file.to_owned() })
}

/// A text of the statement's author, for people: bounded, and on one line.
fn clipped(text: &str) -> String {
    Untrusted(&text.chars().take(MAX_SOURCE_CHARS).collect::<String>()).to_string()
}
