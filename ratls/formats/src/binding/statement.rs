//! The statement: the CBOR map that B commits to, hashed exactly as sent (docs/protocol.md, "Statement").

use crate::binding::leaf::SpkiDigest;
use crate::binding::merkle::{MAX_LEAVES, Root};
use crate::digest::{Sha256Digest, bytes_type};
use crate::wire::cbor::{CborError, Decoder, Encoder};
use crate::wire::limits::{MAX_LOGS, MAX_NAME, MAX_NAMES, MAX_STATEMENT};

bytes_type!(
    /// Random per process start of the guest proxy.
    Epoch, 16);

/// The version that this crate writes and reads.
pub const STATEMENT_VERSION: u64 = 1;

/// Which platform's evidence a statement announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Profile {
    Snp,
    AwsSnp,
    GcpSnp,
    AzureSnp,
    SvsmSnp,
}

impl Profile {
    pub const ALL: [Profile; 5] = [Profile::Snp, Profile::AwsSnp, Profile::GcpSnp, Profile::AzureSnp, Profile::SvsmSnp];

    pub const fn as_str(self) -> &'static str {
        match self {
            Profile::Snp => "snp",
            Profile::AwsSnp => "aws-snp",
            Profile::GcpSnp => "gcp-snp",
            Profile::AzureSnp => "azure-snp",
            Profile::SvsmSnp => "svsm-snp",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.as_str() == name)
    }
}

impl std::fmt::Display for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for Profile {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

/// What the tree's leaves are: connections and data (types 1, 2, 4), or one key (type 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    Batch = 1,
    Key = 2,
}

/// Where the upstream is, as the guest's configuration says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamScope {
    InsideGuest,
    /// Plaintext leaves the guest behind the proxy.
    OutsideGuest,
}

/// A log that the statement commits to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDigest {
    pub name: String,
    pub length: u64,
    pub digest: Sha256Digest,
}

/// Everything a statement says. All of it is the guest's claim; it is worth what the code is worth that asked for B.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    pub profile: Profile,
    pub purpose: Purpose,
    pub root: Root,
    pub n: u32,
    pub spki: SpkiDigest,
    pub epoch: Epoch,
    pub counter: u64,
    /// SHA-256 of the AK's TPMT_PUBLIC, where there is a TPM.
    pub ak: Option<Sha256Digest>,
    pub logs: Vec<LogDigest>,
    pub config: Sha256Digest,
    pub names: Vec<String>,
    /// Guest time in milliseconds: a hint.
    pub time_ms: u64,
    pub upstream_scope: UpstreamScope,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StatementError {
    #[error("the statement does not parse: {0}")]
    Cbor(#[from] CborError),
    #[error("a statement of {seen} bytes; at most {MAX_STATEMENT} are allowed")]
    Size { seen: usize },
    #[error("statement version {0}; this program knows version {STATEMENT_VERSION}")]
    Version(u64),
    #[error("profile {0:?} is unknown")]
    Profile(String),
}

const WHAT: &str = "statement";

impl Statement {
    pub fn encode(&self) -> Vec<u8> {
        let mut e = Encoder::new();
        let optional = [
            self.ak.is_some(),
            !self.logs.is_empty(),
            !self.names.is_empty(),
            self.upstream_scope == UpstreamScope::OutsideGuest,
        ];
        e.map(10 + optional.iter().filter(|present| **present).count());
        e.uint(1).uint(STATEMENT_VERSION).uint(2).text(self.profile.as_str()).uint(3).uint(self.purpose as u64);
        e.uint(4).bytes(self.root.as_bytes()).uint(5).uint(self.n.into()).uint(6).bytes(self.spki.as_bytes());
        e.uint(7).bytes(self.epoch.as_bytes()).uint(8).uint(self.counter);
        if let Some(ak) = &self.ak {
            e.uint(9).bytes(ak.as_bytes());
        }
        if !self.logs.is_empty() {
            let mut logs: Vec<_> = self.logs.iter().collect();
            logs.sort_by_key(|log| (log.name.len(), log.name.clone()));
            e.uint(10).map(logs.len());
            for log in logs {
                e.text(&log.name).array(2).uint(log.length).bytes(log.digest.as_bytes());
            }
        }
        e.uint(11).bytes(self.config.as_bytes());
        if !self.names.is_empty() {
            e.uint(12).array(self.names.len());
            for name in &self.names {
                e.text(name);
            }
        }
        e.uint(13).uint(self.time_ms);
        if self.upstream_scope == UpstreamScope::OutsideGuest {
            e.uint(15).uint(1);
        }
        e.finish()
    }

    /// Strict: keys 16–63 refuse, 64 and up are ignored, key 14 (beacon) is of a later version and refuses.
    pub fn parse(bytes: &[u8]) -> Result<Self, StatementError> {
        if bytes.len() > MAX_STATEMENT {
            return Err(StatementError::Size { seen: bytes.len() });
        }
        let mut found = Fields::default();
        let mut d = Decoder::new(bytes);
        d.map(WHAT, 32, |d, key| found.read(d, key))?;
        d.finish()?;
        found.complete()
    }
}

#[derive(Default)]
struct Fields {
    version: Option<u64>,
    profile: Option<String>,
    purpose: Option<Purpose>,
    root: Option<Root>,
    n: Option<u32>,
    spki: Option<SpkiDigest>,
    epoch: Option<Epoch>,
    counter: Option<u64>,
    ak: Option<Sha256Digest>,
    logs: Vec<LogDigest>,
    config: Option<Sha256Digest>,
    names: Vec<String>,
    time_ms: Option<u64>,
    outside: bool,
}

impl Fields {
    fn read(&mut self, d: &mut Decoder<'_>, key: u64) -> Result<(), CborError> {
        match key {
            1 => self.version = Some(d.uint()?),
            2 => self.profile = Some(d.text("profile", 32)?.to_owned()),
            3 => {
                self.purpose = Some(match d.uint()? {
                    1 => Purpose::Batch,
                    2 => Purpose::Key,
                    value => return Err(CborError::Value { what: "purpose", value }),
                })
            }
            4 => self.root = Some(Root::from_bytes(d.array_of("root")?)),
            5 => {
                let value = d.uint()?;
                let n = u32::try_from(value).ok().filter(|n| (1..=MAX_LEAVES).contains(n));
                self.n = Some(n.ok_or(CborError::Value { what: "n", value })?);
            }
            6 => self.spki = Some(SpkiDigest::from_bytes(d.array_of("spki")?)),
            7 => self.epoch = Some(Epoch::from_bytes(d.array_of("epoch")?)),
            8 => self.counter = Some(d.uint()?),
            9 => self.ak = Some(Sha256Digest::from_bytes(d.array_of("ak")?)),
            10 => d.text_map("logs", MAX_LOGS, 32, |d, name| {
                let (length, digest) = d.pair("log", |d| Ok((d.uint()?, d.array_of("log digest")?)))?;
                self.logs.push(LogDigest { name: name.to_owned(), length, digest: Sha256Digest::from_bytes(digest) });
                Ok(())
            })?,
            11 => self.config = Some(Sha256Digest::from_bytes(d.array_of("config")?)),
            12 => d.list("names", MAX_NAMES, |d| {
                self.names.push(d.text("name", MAX_NAME)?.to_owned());
                Ok(())
            })?,
            13 => self.time_ms = Some(d.uint()?),
            15 => {
                self.outside = match d.uint()? {
                    0 => false,
                    1 => true,
                    value => return Err(CborError::Value { what: "upstream scope", value }),
                }
            }
            64.. => d.skip()?,
            key => return Err(CborError::UnknownKey { what: WHAT, key }),
        }
        Ok(())
    }

    fn complete(self) -> Result<Statement, StatementError> {
        let missing = |key| CborError::MissingKey { what: WHAT, key };
        match self.version.ok_or(missing(1))? {
            STATEMENT_VERSION => {}
            other => return Err(StatementError::Version(other)),
        }
        let profile = self.profile.ok_or(missing(2))?;
        Ok(Statement {
            profile: Profile::from_name(&profile).ok_or(StatementError::Profile(profile))?,
            purpose: self.purpose.ok_or(missing(3))?,
            root: self.root.ok_or(missing(4))?,
            n: self.n.ok_or(missing(5))?,
            spki: self.spki.ok_or(missing(6))?,
            epoch: self.epoch.ok_or(missing(7))?,
            counter: self.counter.ok_or(missing(8))?,
            ak: self.ak,
            logs: self.logs,
            config: self.config.ok_or(missing(11))?,
            names: self.names,
            time_ms: self.time_ms.ok_or(missing(13))?,
            upstream_scope: if self.outside { UpstreamScope::OutsideGuest } else { UpstreamScope::InsideGuest },
        })
    }
}

#[cfg(test)]
pub(crate) fn example() -> Statement {
    Statement {
        profile: Profile::Snp,
        purpose: Purpose::Batch,
        root: Root::from_bytes([1; 32]),
        n: 1,
        spki: SpkiDigest::from_bytes([2; 32]),
        epoch: Epoch::from_bytes([3; 16]),
        counter: 4,
        ak: None,
        logs: vec![],
        config: Sha256Digest::from_bytes([5; 32]),
        names: vec!["llm.example".into()],
        time_ms: 1_800_000_000_000,
        upstream_scope: UpstreamScope::InsideGuest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_as_it_went() {
        let full = Statement {
            ak: Some(Sha256Digest::from_bytes([6; 32])),
            logs: vec![
                LogDigest { name: "ima".into(), length: 9, digest: Sha256Digest::from_bytes([7; 32]) },
                LogDigest { name: "tcg".into(), length: 8, digest: Sha256Digest::from_bytes([8; 32]) },
            ],
            upstream_scope: UpstreamScope::OutsideGuest,
            ..example()
        };
        for statement in [example(), full] {
            assert_eq!(Statement::parse(&statement.encode()), Ok(statement));
        }
    }

    #[test]
    fn proto_n8_statement_keys_16_to_63_refuse_and_64_is_ignored() {
        let with = |key: &[u8]| {
            let mut bytes = example().encode();
            bytes[0] += 1;
            bytes.extend(key);
            Statement::parse(&bytes)
        };
        assert_eq!(with(&[0x10, 0]), Err(CborError::UnknownKey { what: "statement", key: 16 }.into()));
        assert_eq!(with(&[0x18, 63, 0]), Err(CborError::UnknownKey { what: "statement", key: 63 }.into()));
        assert_eq!(with(&[0x18, 64, 0]), Ok(example()));
    }

    #[test]
    fn another_version_or_profile_is_refused() {
        let mut bytes = example().encode();
        assert_eq!(bytes[1..3], [1, 1]);
        bytes[2] = 2;
        assert_eq!(Statement::parse(&bytes), Err(StatementError::Version(2)));
        bytes[2] = 1;
        assert_eq!(&bytes[5..8], b"snp");
        bytes[5] = b'x';
        assert_eq!(Statement::parse(&bytes), Err(StatementError::Profile("xnp".into())));
        assert_eq!(Statement::parse(&[0; 2049]), Err(StatementError::Size { seen: 2049 }));
    }
}
