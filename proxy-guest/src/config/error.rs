//! What is wrong with a configuration, and where it was said: a flag, or file, line and key.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use proxy_core::admin::AdminError;
use proxy_core::net::Addr;
use ratls::wire::limits::MAX_NAMES;

use super::OUTSIDE;
use crate::tokens::TokensError;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    #[error("--config: cannot read {} (check its name and permissions)", .path.display())]
    Read { path: PathBuf, source: io::Error },
    /// Not TOML, an unknown key, or a value of the wrong kind.
    #[error("{origin}: {message}")]
    Syntax { origin: Origin, message: String },
    #[error("there is no upstream: give --upstream ADDR, or set upstream in the file of --config")]
    NoUpstream,
    #[error("{origin}: {reason}")]
    Setting { origin: Origin, reason: Reason },
}

/// Where a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Flag(&'static str),
    File { path: PathBuf, line: usize, key: String },
    Default,
}

/// What is wrong with a setting.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    #[error(
        "a policy for attested clients is not supported by this version yet; clients.tokens_file or clients.ca_file limit who may connect"
    )]
    ClientPolicy,
    #[error(
        "{addr} is outside this guest, where the host sees the plaintext; use loopback or unix:/path, or set upstream_outside_guest = {OUTSIDE:?}"
    )]
    UpstreamOutside { addr: Addr },
    #[error("{seen:?} is not the phrase; its only value is {OUTSIDE:?}")]
    OutsidePhrase { seen: String },
    #[error("{seen} names; a guest claims at most {MAX_NAMES}")]
    TooManyNames { seen: usize },
    #[error("{seen:?} is not a DNS name")]
    Name { seen: String },
    #[error("{seen:?} stands there twice")]
    NameTwice { seen: String },
    #[error("{seen} is not a VMPL; there are 0 to 3")]
    Vmpl { seen: u32 },
    #[error(transparent)]
    Tpm(attester::tpm::AddressError),
    #[error("{seen:?} is not an http or https URL without a query")]
    Url { seen: String },
    #[error("tokens_file and ca_file exclude each other; choose one")]
    TwoKindsOfAccess,
    #[error(transparent)]
    Tokens(TokensError),
    #[error("{}: {why}", .path.display())]
    Ca { path: PathBuf, why: String },
    #[error("{}: no certificate can be read from it: {why}", path.display())]
    Certificate { path: PathBuf, why: String },
    #[error("{seen} certificates; at most {} are looked at", attester::endorse::MAX_FILES)]
    TooManyCertificates { seen: usize },
    #[error(
        "ordinary HTTPS clients cannot show the token that clients.tokens_file asks for; refuse them, or use clients.ca_file"
    )]
    PlainBesideTokens,
    #[error(transparent)]
    Admin(AdminError),
    #[error("there is no admin page; set admin, or leave this out")]
    NoAdmin,
    #[error("{limit} is longer than {bound}, within which it lies")]
    LimitAbove { limit: &'static str, bound: &'static str },
    #[error("pending_leaves is {seen}; one batch holds at most 65536")]
    PendingLeaves { seen: usize },
}

impl ConfigError {
    pub(super) fn at(origin: Origin, reason: Reason) -> Self {
        ConfigError::Setting { origin, reason }
    }

    pub(super) fn of_toml(path: &Path, text: &str, error: &toml::de::Error) -> Self {
        let offset = error.span().map_or(0, |span| span.start);
        let key = key_at(text, offset);
        ConfigError::Syntax { origin: Origin::in_file(path, text, offset, &key), message: error.message().to_owned() }
    }
}

impl Origin {
    pub(super) fn flag(name: &'static str) -> Self {
        Origin::Flag(name)
    }

    pub(super) fn in_file(path: &Path, text: &str, offset: usize, key: &str) -> Self {
        let line = 1 + text.bytes().take(offset).filter(|b| *b == b'\n').count();
        Origin::File { path: path.to_owned(), line, key: key.to_owned() }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag(name) => f.write_str(name),
            Origin::Default => f.write_str("default"),
            Origin::File { path, line, key } if key.is_empty() => write!(f, "{}, line {line}", path.display()),
            Origin::File { path, line, key } => write!(f, "{}, line {line}, {key}", path.display()),
        }
    }
}

/// The dotted key that a byte of the file belongs to, as far as lines tell; empty where they do not. Only for messages.
fn key_at(text: &str, offset: usize) -> String {
    let mut table = "";
    let mut key = "";
    let mut begins = 0;
    for line in text.split_inclusive('\n') {
        if begins > offset {
            break;
        }
        begins += line.len();
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            (table, key) = (name.trim_matches(['[', ']', ' ']), "");
        } else if let Some((name, _)) = line.split_once('=') {
            key = name.trim();
        }
    }
    match (table, key) {
        ("", key) => key.to_owned(),
        (table, "") => table.to_owned(),
        (table, key) => format!("{table}.{key}"),
    }
}
