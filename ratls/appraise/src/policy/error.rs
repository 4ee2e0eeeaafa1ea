//! Why a policy file was not taken: always with the file, the line and the key.
//!
//! The operator wrote the file, so every problem here is the operator's and none is the peer's.

/// A policy file that is not one. Displays as `FILE:LINE: KEY: what is wrong`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {key}: {problem}")]
pub struct PolicyError {
    pub(super) file: String,
    pub(super) line: usize,
    pub(super) key: String,
    pub(super) problem: PolicyProblem,
}

impl PolicyError {
    pub fn file(&self) -> &str {
        &self.file
    }
    /// Counted from 1.
    pub fn line(&self) -> usize {
        self.line
    }
    /// Dotted path of the key, `snp.minimum_tcb.milan.ucode`; an element of a list as `snp.measurements[1]`.
    pub fn key(&self) -> &str {
        &self.key
    }
    pub fn problem(&self) -> &PolicyProblem {
        &self.problem
    }
}

/// The cause; the fields are what was seen and what was wanted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyProblem {
    #[error("not TOML: {0}")]
    Syntax(String),
    #[error("the file has {seen} bytes, at most {max} are read")]
    TooLarge { seen: usize, max: usize },
    #[error("unknown key; known here: {known}")]
    UnknownKey { known: String },
    #[error("missing: {wanted}")]
    Missing { wanted: &'static str },
    #[error("wanted {wanted}, seen {seen}")]
    Type { seen: &'static str, wanted: &'static str },
    #[error("wanted {wanted}, seen {seen:?}")]
    Value { seen: String, wanted: String },
    #[error("an empty list would accept nothing or everything; name what you accept")]
    EmptyList,
    #[error("{seen} entries, at most {max}")]
    TooMany { seen: usize, max: usize },
    #[error("stands in the list twice")]
    Duplicate,
    #[error("wanted {wanted} hex digits, seen {}", if seen == wanted { "another character among them".to_owned() } else { format!("{seen} characters") })]
    Hex { seen: usize, wanted: usize },
    #[error("all zero, which is what an absent value looks like; it identifies nothing")]
    Zero,
    #[error("{0} is not supported by this version")]
    Unsupported(String),
    #[error("{0}")]
    Conflict(&'static str),
    /// A rule or a value of one platform in a file that lists several: a guest that claims another would not be held to it.
    #[error(
        "concerns only some of the platforms in profiles; write version = 2 with one [[accept]] entry for each platform"
    )]
    OfSomeProfiles,
    /// A reference that cannot be computed or checked.
    #[error("{0}")]
    Reference(String),
}
