//! The shape of the client's TOML file, and errors that name file, line and key.

use std::fs::File;
use std::io::Read;
use std::num::NonZeroU32;
use std::ops::Range;
use std::path::{Path, PathBuf};

use proxy_core::duration::{DurationError, Period, Timeout};
use proxy_core::net::Addr;
use proxy_core::telemetry::{Format, Level};
use serde::Deserialize;
use toml::Spanned;

use super::ConfigError;
use crate::audit::{OnFailure, Sync};

/// A file of many guests is a few KiB.
const MAX_FILE_BYTES: usize = 1 << 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    #[serde(default)]
    pub(super) guest: Vec<GuestTable>,
    pub(super) listen: Option<Addr>,
    pub(super) http_proxy: Option<Addr>,
    pub(super) socks5: Option<Addr>,
    pub(super) admin: Option<Addr>,
    pub(super) admin_outside_host: Option<String>,
    #[serde(default)]
    pub(super) add_verdict_headers: bool,
    pub(super) audit: Option<AuditTable>,
    #[serde(default)]
    pub(super) limits: LimitsTable,
    #[serde(default)]
    pub(super) log: LogTable,
}

impl Document {
    pub(super) fn empty() -> Document {
        toml::from_str("").expect("every key of the file may be absent")
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GuestTable {
    pub(super) names: Option<Spanned<Vec<String>>>,
    pub(super) addresses: Spanned<Vec<Addr>>,
    pub(super) policy: Spanned<PathBuf>,
    pub(super) listen: Option<Addr>,
    pub(super) server_name: Option<String>,
    pub(super) token_file: Option<Spanned<PathBuf>>,
    pub(super) client_certificate: Option<Spanned<PathBuf>>,
    pub(super) client_key: Option<Spanned<PathBuf>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitsTable {
    pub(super) connect: Option<Period>,
    pub(super) handshake: Option<Period>,
    pub(super) attest: Option<Period>,
    pub(super) request: Option<Period>,
    pub(super) keep_alive: Option<Period>,
    pub(super) idle: Option<Timeout>,
    pub(super) lifetime: Option<Period>,
    pub(super) connections: Option<NonZeroU32>,
    pub(super) connections_per_source: Option<NonZeroU32>,
    pub(super) head_bytes: Option<HeadBytes>,
    pub(super) drain: Option<Period>,
    /// 0 switches reuse off.
    pub(super) pool_connections: Option<u16>,
    pub(super) pool_reuse_for: Option<Period>,
}

/// 8 KiB is the least that hyper takes; above 1 MiB a head is an attack.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "NonZeroU32")]
pub(super) struct HeadBytes(NonZeroU32);

impl HeadBytes {
    pub(super) fn get(self) -> NonZeroU32 {
        self.0
    }
}

impl TryFrom<NonZeroU32> for HeadBytes {
    type Error = String;
    fn try_from(bytes: NonZeroU32) -> Result<HeadBytes, String> {
        if (8 * 1024..=1024 * 1024).contains(&bytes.get()) {
            Ok(HeadBytes(bytes))
        } else {
            Err(format!("{bytes} bytes; wanted 8192 to 1048576"))
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditTable {
    pub(super) folder: PathBuf,
    pub(super) file_mib: Option<NonZeroU32>,
    pub(super) evidence_mib: Option<NonZeroU32>,
    pub(super) files: Option<NonZeroU32>,
    pub(super) sync: Option<SyncWord>,
    pub(super) on_failure: Option<OnFailure>,
}

/// `each line`, or a time.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct SyncWord(pub(super) Sync);

impl TryFrom<String> for SyncWord {
    type Error = DurationError;

    fn try_from(text: String) -> Result<SyncWord, DurationError> {
        match text.as_str() {
            "each line" => Ok(SyncWord(Sync::EachLine)),
            text => text.parse::<Period>().map(|period| SyncWord(Sync::Within(period.get()))),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogTable {
    pub(super) format: Option<Format>,
    pub(super) level: Option<Level>,
}

/// The text of a configuration file, kept for its line numbers.
pub(super) struct Source {
    file: PathBuf,
    text: String,
}

impl Source {
    pub(super) fn read(file: &Path) -> Result<Source, ConfigError> {
        let bytes = read_bounded(file, MAX_FILE_BYTES, "--config")?;
        let text = String::from_utf8(bytes).map_err(|e| ConfigError::Read {
            origin: "--config".to_owned(),
            file: file.to_owned(),
            source: std::io::Error::new(std::io::ErrorKind::InvalidData, e.utf8_error()),
        })?;
        Ok(Source { file: file.to_owned(), text })
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// What relative paths in the file are relative to.
    pub(super) fn folder(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new(""))
    }

    pub(super) fn parse(&self) -> Result<Document, ConfigError> {
        toml::from_str(&self.text).map_err(|error| {
            let span = error.span().unwrap_or(0..0);
            let key = self.key_at(span.start);
            self.error(span, &key, error.message().to_owned())
        })
    }

    pub(super) fn error(&self, span: Range<usize>, key: &str, problem: String) -> ConfigError {
        ConfigError::Document { file: self.file.clone(), line: self.line_of(&span), key: key.to_owned(), problem }
    }

    /// File, line and key, for errors about what the key names.
    pub(super) fn origin(&self, span: Range<usize>, key: &str) -> String {
        format!("{}:{}: {key}", self.file.display(), self.line_of(&span))
    }

    fn line_of(&self, span: &Range<usize>) -> usize {
        let before = self.text.get(..span.start).unwrap_or(&self.text);
        before.bytes().filter(|&b| b == b'\n').count() + 1
    }

    /// The table and key that `offset` stands in, as far as lines tell.
    fn key_at(&self, offset: usize) -> String {
        let start = self.text.get(..offset).and_then(|before| before.rfind('\n')).map_or(0, |newline| newline + 1);
        let line = self.text.get(start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
        let header = |line: &str| {
            let line = line.trim();
            line.starts_with('[').then(|| line.trim_matches(|c| matches!(c, '[' | ']')).to_owned())
        };
        if let Some(table) = header(line) {
            return table;
        }
        let key = line.split('=').next().unwrap_or_default().trim();
        match self.text.get(..start).unwrap_or_default().lines().rev().find_map(header) {
            Some(table) => format!("{table}.{key}"),
            None => key.to_owned(),
        }
    }
}

/// Reads no further than `max`, so that a device or a pipe cannot fill memory. `origin` is the flag or key that names the file.
pub(super) fn read_bounded(file: &Path, max: usize, origin: &str) -> Result<Vec<u8>, ConfigError> {
    let failed = |source| ConfigError::Read { origin: origin.to_owned(), file: file.to_owned(), source };
    let mut bytes = Vec::new();
    let limit = u64::try_from(max).unwrap_or(u64::MAX - 1) + 1;
    File::open(file).map_err(failed)?.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > max {
        return Err(ConfigError::TooLarge { origin: origin.to_owned(), file: file.to_owned(), max });
    }
    Ok(bytes)
}
