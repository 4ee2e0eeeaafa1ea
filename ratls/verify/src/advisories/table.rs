//! The table of advisories as data: a dated TOML text, read strictly.
//!
//! `table.toml` beside this file is compiled in. A newer one can replace it if a key that the user named signed it; a peer
//! never supplies one. Nothing is fetched. docs/advisories.md explains the columns.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::OnceLock;

use formats::binding::Profile;
use formats::crypto::sha256;
use formats::digest::Sha256Digest;
use formats::time::UnixTime;
use serde::Deserialize;

use super::line::ProcessorLine;

const BUILT_IN: &str = include_str!("table.toml");
/// The only format that this version reads.
const FORMAT: u32 = 1;
/// A table of ten times today's size is a mistake or an attack.
pub const MAX_TABLE_BYTES: usize = 1 << 20;
const MAX_ADVISORIES: usize = 500;

/// Every advisory as of one date.
#[derive(Clone, Debug)]
pub struct AdvisoryTable {
    as_of: TableDate,
    digest: Sha256Digest,
    advisories: Vec<Advisory>,
}

/// A day, `2026-10-10`. Ordered as the calendar is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, serde::Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct TableDate(String);

/// One published vulnerability.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Advisory {
    id: String,
    name: String,
    #[serde(default)]
    aliases: Vec<String>,
    #[serde(default)]
    cves: Vec<String>,
    published: String,
    checked: TableDate,
    forges_reports: bool,
    attack: String,
    remedy: String,
    /// Only guests of these platforms; empty for all.
    #[serde(default, deserialize_with = "profiles")]
    profiles: Vec<Profile>,
    sources: Vec<String>,
    confidence: String,
    #[serde(rename = "row")]
    rows: Vec<AdvisoryRow>,
}

/// What a report of some lines must show.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdvisoryRow {
    pub(super) lines: Vec<ProcessorLine>,
    pub(super) shows: RowKind,
    #[serde(default)]
    pub(super) min_fmc: Option<u8>,
    #[serde(default)]
    pub(super) min_bl: Option<u8>,
    #[serde(default)]
    pub(super) min_tee: Option<u8>,
    #[serde(default)]
    pub(super) min_snp: Option<u8>,
    #[serde(default)]
    pub(super) min_microcode: Option<u8>,
    #[serde(default)]
    pub(super) open_below_snp: Option<u8>,
    #[serde(default)]
    pub(super) open_below_microcode: Option<u8>,
    #[serde(default)]
    pub(super) bits: Vec<u8>,
    #[serde(default)]
    pub(super) bit_clear: Option<ClearBit>,
    #[serde(default)]
    pub(super) platform_bit: Option<u8>,
    #[serde(default)]
    pub(super) alternatives: Vec<Alternative>,
    #[serde(default)]
    pub(super) why: Option<String>,
}

/// What a report can say about a row at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RowKind {
    /// The fix, by versions and bits.
    Fix,
    /// Nothing but one of the alternatives.
    Alternatives,
    /// At most that firmware is too old to have a fix.
    NotProvable,
    /// Nothing: the attack is on the hardware.
    Physical,
    /// AMD does not list the part.
    NotAffected,
}

/// What a clear mitigation bit means if the versions are high enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ClearBit {
    Open,
    NotProvable,
}

/// Something other than a fix that rules an attack out. Bits of the guest policy are better than bits of the platform:
/// firmware does not launch a guest whose policy the platform cannot keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Alternative {
    PolicySmtRefused,
    PolicyRaplDisabled,
    PolicyCiphertextHiding,
    PolicyPageSwapDisabled,
    PlatformSmtOff,
    PlatformRaplDisabled,
    PlatformCiphertextHiding,
}

/// Why a text is not a table of advisories.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdvisoryTableError {
    #[error("the table of advisories has {seen} bytes; at most {MAX_TABLE_BYTES} are read")]
    Size { seen: usize },
    #[error("the table of advisories is not UTF-8")]
    Encoding,
    #[error("the table of advisories cannot be read: {0}")]
    Syntax(String),
    #[error("the table of advisories has format {seen}; this version reads format {FORMAT}: update evident-client")]
    Format { seen: u32 },
    #[error("advisory {id}: {what}")]
    Content { id: String, what: String },
    #[error("the table of advisories is of {seen}, not newer than the built-in one of {built_in}: remove it")]
    NotNewer { seen: TableDate, built_in: TableDate },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TableText {
    format: u32,
    as_of: TableDate,
    #[serde(rename = "advisory")]
    advisories: Vec<Advisory>,
}

impl AdvisoryTable {
    /// Returns the table that this program was built with. It is a constant, read once.
    pub fn built_in() -> &'static AdvisoryTable {
        static TABLE: OnceLock<AdvisoryTable> = OnceLock::new();
        TABLE.get_or_init(|| AdvisoryTable::parse(BUILT_IN.as_bytes()).expect("a test parses the built-in table"))
    }

    /// Reads a table. Unknown keys, unknown words and rows without meaning are refused.
    pub fn parse(bytes: &[u8]) -> Result<AdvisoryTable, AdvisoryTableError> {
        if bytes.len() > MAX_TABLE_BYTES {
            return Err(AdvisoryTableError::Size { seen: bytes.len() });
        }
        let text = std::str::from_utf8(bytes).map_err(|_| AdvisoryTableError::Encoding)?;
        let table: TableText = toml::from_str(text).map_err(|e| AdvisoryTableError::Syntax(e.to_string()))?;
        if table.format != FORMAT {
            return Err(AdvisoryTableError::Format { seen: table.format });
        }
        if table.advisories.is_empty() || table.advisories.len() > MAX_ADVISORIES {
            return Err(AdvisoryTableError::Syntax(format!("{} advisories", table.advisories.len())));
        }
        let mut names = BTreeSet::new();
        for advisory in &table.advisories {
            let error = |what: String| AdvisoryTableError::Content { id: advisory.id.clone(), what };
            if !names.insert((&advisory.id, &advisory.name)) {
                return Err(error(format!("{:?} occurs twice", advisory.name)));
            }
            advisory.check().map_err(error)?;
        }
        Ok(AdvisoryTable { as_of: table.as_of, digest: sha256(&[bytes]), advisories: table.advisories })
    }

    /// Reads a table that is to replace the built-in one, whose signature the caller has verified. It must be newer.
    pub fn replacing_built_in(bytes: &[u8]) -> Result<AdvisoryTable, AdvisoryTableError> {
        let (table, built_in) = (AdvisoryTable::parse(bytes)?, AdvisoryTable::built_in());
        match table.as_of > built_in.as_of {
            true => Ok(table),
            false => Err(AdvisoryTableError::NotNewer { seen: table.as_of, built_in: built_in.as_of.clone() }),
        }
    }

    pub fn as_of(&self) -> &TableDate {
        &self.as_of
    }

    /// Returns the SHA-256 of the text.
    pub fn digest(&self) -> &Sha256Digest {
        &self.digest
    }

    pub fn advisories(&self) -> &[Advisory] {
        &self.advisories
    }
}

impl TableDate {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the whole days from this date to a time; zero for a time before it.
    pub fn age_days(&self, now: UnixTime) -> u64 {
        let seconds = now.as_secs().saturating_sub(self.start().as_secs());
        u64::try_from(seconds).unwrap_or(0) / 86_400
    }

    fn start(&self) -> UnixTime {
        UnixTime::parse_rfc3339(&format!("{}T00:00:00Z", self.0)).expect("checked when the date was made")
    }
}

impl std::fmt::Display for TableDate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

impl std::str::FromStr for TableDate {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let is_date = text.len() == 10 && UnixTime::parse_rfc3339(&format!("{text}T00:00:00Z")).is_ok();
        is_date.then(|| TableDate(text.to_owned())).ok_or_else(|| format!("{text:?} is not a date such as 2026-10-10"))
    }
}

impl TryFrom<String> for TableDate {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<TableDate> for String {
    fn from(date: TableDate) -> String {
        date.0
    }
}

impl Advisory {
    /// Returns the bulletin's number, or the name under which the vulnerability is known.
    pub fn id(&self) -> &str {
        &self.id
    }
    pub fn name(&self) -> &str {
        &self.name
    }
    /// Returns the numbers of other publishers' bulletins about the same.
    pub fn aliases(&self) -> &[String] {
        &self.aliases
    }
    pub fn cves(&self) -> &[String] {
        &self.cves
    }
    pub fn published(&self) -> &str {
        &self.published
    }
    /// Returns the day on which the row was last compared with its sources.
    pub fn checked(&self) -> &TableDate {
        &self.checked
    }
    /// Whether the attack can forge or extract what a report rests on, so that every other answer depends on it.
    pub fn forges_reports(&self) -> bool {
        self.forges_reports
    }
    pub fn attack(&self) -> &str {
        &self.attack
    }
    pub fn remedy(&self) -> &str {
        &self.remedy
    }
    pub fn profiles(&self) -> &[Profile] {
        &self.profiles
    }
    pub fn sources(&self) -> &[String] {
        &self.sources
    }
    pub fn confidence(&self) -> &str {
        &self.confidence
    }
    pub fn rows(&self) -> &[AdvisoryRow] {
        &self.rows
    }

    /// Returns the row of a line, if there is one.
    pub fn row(&self, line: ProcessorLine) -> Option<&AdvisoryRow> {
        self.rows.iter().find(|row| row.lines.contains(&line))
    }

    /// Whether this is the advisory that a person means: its id with or without `AMD-`, an alias or a CVE, in any case.
    pub fn is_named(&self, text: &str) -> bool {
        let short = self.id.strip_prefix("AMD-");
        let names = std::iter::once(self.id.as_str()).chain(short);
        let others = self.aliases.iter().chain(&self.cves).map(String::as_str);
        names.chain(others).any(|name| name.eq_ignore_ascii_case(text))
    }

    fn check(&self) -> Result<(), String> {
        for (key, text) in [("id", &self.id), ("name", &self.name), ("attack", &self.attack), ("remedy", &self.remedy)]
        {
            if text.trim().is_empty() || text.chars().any(char::is_control) {
                return Err(format!("{key} is empty or has a control character"));
            }
        }
        if self.sources.is_empty() || self.rows.is_empty() {
            return Err("sources and rows may not be empty".to_owned());
        }
        let mut lines = BTreeSet::new();
        for row in &self.rows {
            if row.lines.is_empty() || row.lines.iter().any(|line| !lines.insert(*line)) {
                return Err("a row without lines, or a line in two rows".to_owned());
            }
            row.check()?;
        }
        Ok(())
    }
}

impl AdvisoryRow {
    pub fn lines(&self) -> &[ProcessorLine] {
        &self.lines
    }

    /// Whether AMD lists these parts as affected.
    pub fn is_affected(&self) -> bool {
        self.shows != RowKind::NotAffected
    }

    /// Returns the mask of the mitigation bits that must be set in both vectors.
    pub(super) fn bit_mask(&self) -> u64 {
        self.bits.iter().fold(0, |mask, bit| mask | 1 << bit)
    }

    fn has_minimum(&self) -> bool {
        [self.min_fmc, self.min_bl, self.min_tee, self.min_snp, self.min_microcode].iter().any(Option::is_some)
    }

    fn has_open(&self) -> bool {
        self.open_below_snp.is_some() || self.open_below_microcode.is_some()
    }

    /// A row that nothing can fail, or a number that contradicts another, would be a silent "met".
    fn check(&self) -> Result<(), String> {
        if self.bits.iter().chain(&self.platform_bit).any(|bit| *bit > 63) {
            return Err("a bit above 63".to_owned());
        }
        if self.bits.is_empty() != self.bit_clear.is_none() {
            return Err("bits and bit_clear belong together".to_owned());
        }
        let above = |open: Option<u8>, min: Option<u8>| matches!((open, min), (Some(open), Some(min)) if open > min);
        if above(self.open_below_snp, self.min_snp) || above(self.open_below_microcode, self.min_microcode) {
            return Err("open_below is above min".to_owned());
        }
        if self.min_fmc.is_some() && self.lines.iter().any(|line| line.product() != formats::tcb::Product::Turin) {
            return Err("only Turin has an FMC".to_owned());
        }
        let is_plain = !self.has_minimum() && self.bits.is_empty() && self.platform_bit.is_none();
        let holds = match self.shows {
            RowKind::Fix => !is_plain && self.why.is_none(),
            RowKind::Alternatives => {
                is_plain && !self.has_open() && !self.alternatives.is_empty() && self.why.is_none()
            }
            RowKind::NotProvable => is_plain && self.alternatives.is_empty() && self.why.is_some(),
            RowKind::Physical | RowKind::NotAffected => {
                is_plain && !self.has_open() && self.alternatives.is_empty() && self.why.is_some()
            }
        };
        holds.then_some(()).ok_or_else(|| format!("a row that shows {:?} has keys that contradict it", self.shows))
    }
}

/// What a report must show, in one line: `Milan B1: SNP firmware 27, microcode 222, mitigation bit 1 in both vectors`.
impl fmt::Display for AdvisoryRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<&str> = self.lines.iter().map(|line| line.name()).collect();
        let mut needs: Vec<String> = [
            ("FMC", self.min_fmc),
            ("boot loader", self.min_bl),
            ("TEE", self.min_tee),
            ("SNP firmware", self.min_snp),
            ("microcode", self.min_microcode),
        ]
        .into_iter()
        .filter_map(|(name, minimum)| Some(format!("{name} {}", minimum?)))
        .collect();
        if !self.bits.is_empty() {
            let bits: Vec<String> = self.bits.iter().map(u8::to_string).collect();
            needs.push(format!("mitigation bit {} in both vectors", bits.join(", ")));
        }
        needs.extend(self.platform_bit.map(|bit| format!("platform bit {bit}")));
        if let Some(why) = &self.why {
            let open = self.open_below_snp.map(|snp| format!("open below SNP firmware {snp}; "));
            needs.push(format!("{}{why}", open.unwrap_or_default()));
        }
        if !self.alternatives.is_empty() {
            let or = if needs.is_empty() { "" } else { "or " };
            needs.push(format!("{or}a bit of the guest policy or of the platform that rules it out"));
        }
        write!(f, "{}: {}", lines.join(", "), needs.join(", "))
    }
}

fn profiles<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Profile>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    let named = |name: &String| Profile::ALL.into_iter().find(|profile| profile.as_str() == name);
    names
        .iter()
        .map(|name| named(name).ok_or_else(|| serde::de::Error::custom(format!("{name:?} is no profile"))))
        .collect()
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
