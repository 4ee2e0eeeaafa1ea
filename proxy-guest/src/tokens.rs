//! Access tokens: who may open a tunnel, where the operator says so.
//!
//! The file holds hashes, one per line: SHA-256 of the token as 64 hex digits, and after white space a label for the
//! logs. `#` begins a comment. Tokens should be random (`openssl rand -hex 32`): a hash without salt hides only what
//! cannot be guessed.
//!
//! A right token always lets its client through, whatever else came from its source. A wrong one is answered late, and
//! its connection stays charged to its source until then, also where the peer hangs up (the session's part): a source
//! has so many guesses at once and no more.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ratls::crypto::{constant_time_eq, sha256};
use ratls::digest::Sha256Digest;

const MAX_TOKENS: usize = 10_000;
const MAX_FILE_BYTES: u64 = 4 << 20;
const MAX_LABEL_BYTES: usize = 64;

/// After so long a wrong token is answered.
pub(crate) const WRONG_ANSWERED_AFTER: Duration = Duration::from_secs(1);

/// The hashes of the tokens that open tunnels. Clones share them; nothing of it is printable.
#[derive(Clone)]
pub struct Tokens {
    entries: Arc<[Entry]>,
}

struct Entry {
    hash: Sha256Digest,
    label: String,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokensError {
    #[error("cannot read {}: {source}", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}, line {line}: wanted 64 hex digits (SHA-256 of a token), then white space and a label", .path.display())]
    Line { path: PathBuf, line: usize },
    #[error("{}, line {line}: this hash stands there twice", .path.display())]
    Twice { path: PathBuf, line: usize },
    #[error("{} holds no token, so nobody could connect", .path.display())]
    Empty { path: PathBuf },
    #[error("{} is larger than {MAX_TOKENS} tokens or {MAX_FILE_BYTES} bytes", .path.display())]
    TooLarge { path: PathBuf },
}

impl Tokens {
    pub fn load(path: &Path) -> Result<Self, TokensError> {
        let read = |source| TokensError::Read { path: path.to_owned(), source };
        if std::fs::metadata(path).map_err(read)?.len() > MAX_FILE_BYTES {
            return Err(TokensError::TooLarge { path: path.to_owned() });
        }
        Self::parse(path, &std::fs::read_to_string(path).map_err(read)?)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, TokensError> {
        let path = || path.to_owned();
        let mut entries: Vec<Entry> = vec![];
        for (number, line) in text.lines().enumerate() {
            let line_number = number + 1;
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let entry = Entry::parse(line).ok_or_else(|| TokensError::Line { path: path(), line: line_number })?;
            if entries.iter().any(|known| known.hash == entry.hash) {
                return Err(TokensError::Twice { path: path(), line: line_number });
            }
            if entries.len() == MAX_TOKENS {
                return Err(TokensError::TooLarge { path: path() });
            }
            entries.push(entry);
        }
        if entries.is_empty() {
            return Err(TokensError::Empty { path: path() });
        }
        Ok(Tokens { entries: entries.into() })
    }

    /// Whether `token`, as OPEN carried it, lets its client through; with the token's label for the log.
    pub fn check(&self, token: Option<&[u8]>) -> Result<&str, Denied> {
        self.find(token.ok_or(Denied::Missing)?).ok_or(Denied::Wrong)
    }

    /// The label of the entry whose token this is. Every entry is compared, each in constant time.
    fn find(&self, token: &[u8]) -> Option<&str> {
        let hash = sha256(&[token]);
        let mut found = None;
        for entry in self.entries.iter() {
            if constant_time_eq(entry.hash.as_bytes(), hash.as_bytes()) {
                found = Some(entry.label.as_str());
            }
        }
        found
    }
}

impl Entry {
    fn parse(line: &str) -> Option<Self> {
        let (hash, label) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let mut bytes = [0; 32];
        hex::decode_to_slice(hash, &mut bytes).ok()?;
        let label = label.trim();
        let printable = label.len() <= MAX_LABEL_BYTES && !label.contains(char::is_control);
        printable.then(|| Entry { hash: Sha256Digest::from_bytes(bytes), label: label.to_owned() })
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({})", self.entries.len())
    }
}

/// Why an OPEN is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error("this guest asks for an access token and none came")]
    Missing,
    #[error("the access token is not known here")]
    Wrong,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Tokens, TokensError> {
        Tokens::parse(Path::new("tokens"), text)
    }

    fn line(token: &str, label: &str) -> String {
        format!("{} {label}\n", hex::encode(sha256(&[token.as_bytes()]).as_bytes()))
    }

    fn gate() -> Tokens {
        parse(&(line("right", "laptop") + &line("other", ""))).unwrap()
    }

    #[test]
    fn reads_hashes_labels_and_comments() {
        let tokens =
            parse(&format!("# people\n\n{}  {} # Anna", line("a", "  the laptop"), line("b", "").trim())).unwrap();
        assert_eq!(tokens.find(b"a"), Some("the laptop"));
        assert_eq!(tokens.find(b"b"), Some(""));
        assert_eq!(tokens.find(b"c"), None);
        assert_eq!(format!("{tokens:?}"), "Tokens(2)");
    }

    #[test]
    fn refuses_a_file_that_would_let_nobody_or_the_wrong_ones_in() {
        assert!(matches!(parse(""), Err(TokensError::Empty { .. })));
        assert!(matches!(parse("# none\n"), Err(TokensError::Empty { .. })));
        assert!(matches!(parse("the-token-itself"), Err(TokensError::Line { line: 1, .. })));
        assert!(matches!(parse(&format!("\n{}", "ab".repeat(31))), Err(TokensError::Line { line: 2, .. })));
        assert!(matches!(parse(&(line("a", "") + &line("a", "b"))), Err(TokensError::Twice { line: 2, .. })));
        assert!(matches!(Tokens::load(Path::new("/nonexistent")), Err(TokensError::Read { .. })));
    }

    #[test]
    fn lets_in_who_has_a_token_whatever_came_before() {
        let gate = gate();
        for _ in 0..100 {
            assert_eq!(gate.check(Some(b"wrong")), Err(Denied::Wrong));
            assert_eq!(gate.check(Some(b"")), Err(Denied::Wrong));
            assert_eq!(gate.check(None), Err(Denied::Missing));
            assert_eq!(gate.check(Some(b"right")), Ok("laptop"));
        }
    }
}
