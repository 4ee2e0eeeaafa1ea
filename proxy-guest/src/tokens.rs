//! Access tokens: who may open a tunnel, where the operator says so.
//!
//! The file holds hashes, one per line: SHA-256 of the token as 64 hex digits, and after white space a label for the
//! logs. `#` begins a comment. Tokens should be random (`openssl rand -hex 32`): a hash without salt hides only what
//! cannot be guessed.
//!
//! After some wrong tokens a source has to wait, longer each time, and during the wait nothing of it is checked: not even
//! a right token, or the answer would tell a guesser.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ratls::crypto::{constant_time_eq, sha256};
use ratls::digest::Sha256Digest;

const MAX_TOKENS: usize = 10_000;
const MAX_FILE_BYTES: u64 = 4 << 20;
const MAX_LABEL_BYTES: usize = 64;

/// Wrong tokens of one source without a wait.
const FREE_FAILURES: u32 = 3;
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// After so long without a wrong token a source is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(600);
/// Sources remembered at once. Beyond, the one whose last failure is longest ago is forgotten.
const MAX_SOURCES: usize = 4_096;

/// The hashes of the tokens that open tunnels, and the sources that sent wrong ones. Clones share both; nothing of it is
/// printable.
#[derive(Clone)]
pub struct Tokens {
    entries: Arc<[Entry]>,
    failures: Arc<Mutex<HashMap<IpAddr, Failures>>>,
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
        Ok(Tokens { entries: entries.into(), failures: Arc::default() })
    }

    /// Whether `token`, as OPEN carried it, lets its source through; with the token's label for the log.
    ///
    /// A missing token costs nothing: it is a client that was set up without one, not a guess.
    pub fn check(&self, source: IpAddr, token: Option<&[u8]>) -> Result<&str, Denied> {
        self.check_at(source, token, Instant::now())
    }

    fn check_at(&self, source: IpAddr, token: Option<&[u8]>, now: Instant) -> Result<&str, Denied> {
        let token = token.ok_or(Denied::Missing)?;
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = failures.get(&source) {
            let until = known.until();
            if now < until {
                return Err(Denied::Waiting { retry_after: until - now });
            }
        }
        if let Some(label) = self.find(token) {
            failures.remove(&source);
            return Ok(label);
        }
        make_room(&mut failures, source, now);
        let known = failures.entry(source).or_insert(Failures { count: 0, last: now });
        *known = Failures { count: known.count.saturating_add(1), last: now };
        Err(Denied::Wrong)
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
    #[error("too many wrong access tokens from this source")]
    Waiting { retry_after: Duration },
}

#[derive(Clone, Copy)]
struct Failures {
    count: u32,
    last: Instant,
}

impl Failures {
    /// When the source is listened to again.
    fn until(&self) -> Instant {
        self.last + wait_after(self.count)
    }
}

fn wait_after(failures: u32) -> Duration {
    match failures.checked_sub(FREE_FAILURES) {
        None | Some(0) => Duration::ZERO,
        Some(over) => FIRST_WAIT.saturating_mul(1u32.checked_shl(over - 1).unwrap_or(u32::MAX)).min(LONGEST_WAIT),
    }
}

fn make_room(failures: &mut HashMap<IpAddr, Failures>, source: IpAddr, now: Instant) {
    if failures.get(&source).is_some_and(|known| now.duration_since(known.last) > FORGET_AFTER) {
        failures.remove(&source);
    }
    if failures.len() < MAX_SOURCES || failures.contains_key(&source) {
        return;
    }
    failures.retain(|_, known| now.duration_since(known.last) <= FORGET_AFTER);
    if failures.len() >= MAX_SOURCES {
        let oldest = failures.iter().min_by_key(|(_, known)| known.last).map(|(source, _)| *source);
        failures.remove(&oldest.expect("the map is full"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

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
    fn lets_in_who_has_a_token() {
        let now = Instant::now();
        assert_eq!(gate().check_at(SOURCE, Some(b"right"), now), Ok("laptop"));
        assert_eq!(gate().check_at(SOURCE, Some(b"wrong"), now), Err(Denied::Wrong));
        assert_eq!(gate().check_at(SOURCE, Some(b""), now), Err(Denied::Wrong));
        assert_eq!(gate().check_at(SOURCE, None, now), Err(Denied::Missing));
    }

    #[test]
    fn makes_a_guesser_wait_longer_each_time_and_nobody_else() {
        let gate = gate();
        let mut now = Instant::now();
        for _ in 0..=FREE_FAILURES {
            assert_eq!(gate.check_at(SOURCE, Some(b"wrong"), now), Err(Denied::Wrong));
        }
        assert_eq!(gate.check_at(SOURCE, Some(b"right"), now), Err(Denied::Waiting { retry_after: FIRST_WAIT }));
        assert_eq!(gate.check_at(IpAddr::from([10, 0, 0, 2]), Some(b"right"), now), Ok("laptop"));
        now += FIRST_WAIT;
        assert_eq!(gate.check_at(SOURCE, Some(b"wrong"), now), Err(Denied::Wrong));
        assert_eq!(gate.check_at(SOURCE, Some(b"right"), now), Err(Denied::Waiting { retry_after: FIRST_WAIT * 2 }));
        now += FIRST_WAIT * 2;
        assert_eq!(gate.check_at(SOURCE, Some(b"right"), now), Ok("laptop"));
        assert_eq!(gate.check_at(SOURCE, Some(b"wrong"), now), Err(Denied::Wrong));
        assert_eq!(gate.check_at(SOURCE, Some(b"right"), now), Ok("laptop"));
    }

    #[test]
    fn a_wait_has_an_end() {
        for failures in [10, 40, u32::MAX] {
            assert_eq!(wait_after(failures), LONGEST_WAIT);
        }
    }

    #[test]
    fn remembers_a_bounded_number_of_sources() {
        let gate = gate();
        let begin = Instant::now();
        for n in 0..u32::try_from(MAX_SOURCES).unwrap() + 100 {
            let _ =
                gate.check_at(IpAddr::from(n.to_be_bytes()), Some(b"wrong"), begin + Duration::from_millis(n.into()));
        }
        assert_eq!(gate.failures.lock().unwrap().len(), MAX_SOURCES);
        let later = begin + FORGET_AFTER * 2;
        let _ = gate.check_at(SOURCE, Some(b"wrong"), later);
        assert_eq!(gate.failures.lock().unwrap().len(), 1);
    }
}
