//! The `[event_log]` table: what a guest may have booted, in terms of meaning.
//!
//! A rule that is left out compares nothing, and what it would have compared stays open: the trust table says `partial`. A
//! rule that is there must hold. Secure Boot is demanded where the table does not say otherwise, and no register may be named that
//! anybody can reset.

use std::collections::BTreeMap;

use super::document::{Entry, Section};
use super::error::{PolicyError, PolicyProblem};
use super::pattern::{Pattern, Values};
use super::reference::{DigestOrigin, ORIGINS};
use super::verity::{self, VerityRules};
use formats::digest::Sha256Digest;
use measure::measured_boot::registers::{Evidential, meaning};
use measure::measured_boot::stub::SECTIONS;

/// What is accepted of a boot.
#[derive(Debug)]
pub struct EventLogRules {
    /// Whose word the digests and texts are.
    pub(crate) origin: DigestOrigin,
    pub(crate) ignored: Vec<u8>,
    pub(crate) technology: Option<String>,
    pub(crate) secure_boot_required: bool,
    /// SHA-256 of a variable's content, by its name.
    pub(crate) secure_boot_keys: BTreeMap<&'static str, Vec<Sha256Digest>>,
    pub(crate) authorities: Vec<Sha256Digest>,
    pub(crate) sbat: Option<SbatRule>,
    pub(crate) boot_programs: Vec<MeasuredDigest>,
    pub(crate) kernel: Vec<MeasuredDigest>,
    pub(crate) initrd: Vec<MeasuredDigest>,
    pub(crate) files: Listed<MeasuredDigest>,
    pub(crate) mok: Vec<MeasuredDigest>,
    pub(crate) disk: Vec<MeasuredDigest>,
    pub(crate) command_lines: Vec<Pattern>,
    /// Of lines whose text the author does not know.
    pub(crate) command_line_digests: Vec<MeasuredDigest>,
    pub(crate) grub_commands: Listed<Pattern>,
    pub(crate) variables: Values,
    pub(crate) sections: BTreeMap<&'static str, Vec<MeasuredDigest>>,
    pub(crate) ima: Option<ImaRules>,
    pub(crate) verity: Option<VerityRules>,
}

/// A digest as a register was extended with it: SHA-256 or SHA-384, whichever bank the guest quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeasuredDigest(Vec<u8>);

/// A list that an author may want to leave open on purpose, beside other rules about the same register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listed<T> {
    /// Left out.
    Nothing,
    /// Said explicitly: whatever else is there is not compared, and the component stays partly covered.
    Any,
    These(Vec<T>),
}

/// The least that shim must enforce against revoked boot programs.
#[derive(Debug)]
pub struct SbatRule {
    pub(crate) date: u64,
    /// `shim`, `grub`…: the least generation that may run.
    pub(crate) generations: BTreeMap<String, u32>,
}

/// Which files may have been measured by IMA.
#[derive(Debug)]
pub struct ImaRules {
    /// What `ima_policy=` must say on the command line: without a known policy a list proves nothing.
    pub(crate) policy: String,
    pub(crate) files: BTreeMap<String, Vec<String>>,
}

impl<T> Listed<T> {
    pub(crate) fn these(&self) -> &[T] {
        match self {
            Listed::These(list) => list,
            Listed::Nothing | Listed::Any => &[],
        }
    }
}

impl MeasuredDigest {
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

const KEYS: &[&str] = &[
    "from",
    "ignore_registers",
    "technology",
    "secure_boot",
    "secure_boot_keys",
    "authorities",
    "sbat",
    "boot_programs",
    "kernel",
    "initrd",
    "files",
    "mok",
    "disk",
    "kernel_command_line",
    "kernel_command_line_digests",
    "grub_commands",
    "variables",
    "uki",
    "ima",
    "verity_key",
    "neutral_words",
];

/// Registers that rules speak of. PCR 15 differs from machine to machine, and PCR 10 has rules of its own.
pub(crate) const JUDGED: [u8; 14] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14];
/// Files in an IMA allow-list: what a policy file of a mebibyte can hold.
const MAX_IMA_FILES: usize = 16_384;

impl EventLogRules {
    /// Whether a verdict needs the kernel's measurement list.
    pub fn needs_ima(&self) -> bool {
        self.ima.is_some()
    }

    /// Command lines that are accepted.
    pub fn lines(&self) -> &[Pattern] {
        &self.command_lines
    }
    /// Commands of grub that are accepted.
    pub fn grub_texts(&self) -> &[Pattern] {
        self.grub_commands.these()
    }
    /// Values that the variables of a pattern may have.
    pub fn variables(&self) -> &Values {
        &self.variables
    }

    /// Whether something is said of the kernel's command line.
    pub(crate) fn names_lines(&self) -> bool {
        !self.command_lines.is_empty() || !self.command_line_digests.is_empty()
    }
}

pub(super) fn parse(root: &mut Section<'_>) -> Result<Option<EventLogRules>, PolicyError> {
    root.optional("event_log").map(|entry| rules(&entry)).transpose()
}

fn rules(entry: &Entry<'_>) -> Result<EventLogRules, PolicyError> {
    let mut table = entry.section(KEYS)?;
    let variables = variables(&mut table)?;
    let rules = EventLogRules {
        origin: table.optional("from").map_or(Ok(DigestOrigin::Own), |e| e.word(ORIGINS))?,
        ignored: list(&mut table, "ignore_registers", register)?,
        technology: table
            .optional("technology")
            .map(|e| e.word(&[("sev", "SEV"), ("sev-es", "SEV-ES"), ("sev-snp", "SEV-SNP")]).map(str::to_owned))
            .transpose()?,
        secure_boot_required: table
            .optional("secure_boot")
            .map_or(Ok(true), |e| e.word(&[("required", true), ("not required", false)]))?,
        secure_boot_keys: secure_boot_keys(&mut table)?,
        authorities: list(&mut table, "authorities", sha256)?,
        sbat: table.optional("sbat").map(|e| sbat(&e)).transpose()?,
        boot_programs: list(&mut table, "boot_programs", measured)?,
        kernel: list(&mut table, "kernel", measured)?,
        initrd: list(&mut table, "initrd", measured)?,
        files: listed(&mut table, "files", measured)?,
        mok: list(&mut table, "mok", measured)?,
        disk: list(&mut table, "disk", measured)?,
        command_lines: list(&mut table, "kernel_command_line", pattern)?,
        command_line_digests: list(&mut table, "kernel_command_line_digests", measured)?,
        grub_commands: listed(&mut table, "grub_commands", pattern)?,
        sections: sections(&mut table)?,
        ima: table.optional("ima").map(|e| ima(&e)).transpose()?,
        verity: verity::parse(&mut table)?,
        variables: variables.clone(),
    };
    table.finish()?;
    if let Some(unused) = variables.keys().find(|name| !uses(&rules, name)) {
        let problem = PolicyProblem::Conflict("stands in no pattern");
        return Err(entry.section(KEYS)?.error_at(&format!("variables.{unused}"), problem));
    }
    Ok(rules)
}

fn uses(rules: &EventLogRules, name: &str) -> bool {
    rules.command_lines.iter().chain(rules.grub_commands.these()).any(|pattern| pattern.variables().any(|v| v == name))
}

/// One text or a list of them; empty where the key is left out.
fn list<'d, T: PartialEq>(
    table: &mut Section<'d>,
    name: &str,
    read: impl Fn(&Entry<'d>) -> Result<T, PolicyError>,
) -> Result<Vec<T>, PolicyError> {
    match table.optional(name) {
        None => Ok(Vec::new()),
        Some(entry) if entry.is_string() => Ok(vec![read(&entry)?]),
        Some(entry) => entry.list(read),
    }
}

/// The same, or the word `any`.
fn listed<'d, T: PartialEq>(
    table: &mut Section<'d>,
    name: &str,
    read: impl Fn(&Entry<'d>) -> Result<T, PolicyError>,
) -> Result<Listed<T>, PolicyError> {
    match table.optional(name) {
        None => Ok(Listed::Nothing),
        Some(entry) if entry.is_string() => entry.word(&[("any", ())]).map(|()| Listed::Any),
        Some(entry) => entry.list(read).map(Listed::These),
    }
}

fn register(entry: &Entry<'_>) -> Result<u8, PolicyError> {
    let pcr = u8::try_from(entry.integer(23)?).expect("bounded by 23");
    match meaning(pcr).map(|meaning| meaning.evidential) {
        Some(Evidential::Yes) if JUDGED.contains(&pcr) => Ok(pcr),
        Some(Evidential::Yes) => Err(entry.error(PolicyProblem::Conflict("no rule speaks of this register"))),
        _ => Err(entry.error(PolicyProblem::Conflict("this register is never evidence, and always ignored"))),
    }
}

fn measured(entry: &Entry<'_>) -> Result<MeasuredDigest, PolicyError> {
    let text = entry.text()?;
    let bytes = hex::decode(text).ok().filter(|bytes| matches!(bytes.len(), 32 | 48));
    let bytes = bytes.ok_or_else(|| entry.value_error(text, "64 hex digits (SHA-256) or 96 (SHA-384)"))?;
    if bytes.iter().all(|byte| *byte == 0) {
        return Err(entry.error(PolicyProblem::Zero));
    }
    Ok(MeasuredDigest(bytes))
}

fn sha256(entry: &Entry<'_>) -> Result<Sha256Digest, PolicyError> {
    entry.hex(Sha256Digest::from_hex, Sha256Digest::is_zero)
}

fn pattern(entry: &Entry<'_>) -> Result<Pattern, PolicyError> {
    let text = entry.text()?;
    Pattern::parse(text).map_err(|wanted| entry.value_error(text, wanted))
}

fn variables(table: &mut Section<'_>) -> Result<Values, PolicyError> {
    let Some(entry) = table.optional("variables") else { return Ok(Values::new()) };
    let mut values = Values::new();
    for (name, entry) in entry.entries(64)? {
        let listed = if entry.is_string() {
            vec![entry.text()?.to_owned()]
        } else {
            entry.list(|e| e.text().map(str::to_owned))?
        };
        values.insert(name.to_owned(), listed);
    }
    Ok(values)
}

fn secure_boot_keys(table: &mut Section<'_>) -> Result<BTreeMap<&'static str, Vec<Sha256Digest>>, PolicyError> {
    const NAMES: [&str; 4] = ["PK", "KEK", "db", "dbx"];
    let Some(entry) = table.optional("secure_boot_keys") else { return Ok(BTreeMap::new()) };
    let mut keys = entry.section(&NAMES)?;
    let mut found = BTreeMap::new();
    for name in NAMES {
        let digests = list(&mut keys, name, sha256)?;
        if !digests.is_empty() {
            found.insert(name, digests);
        }
    }
    keys.finish()?;
    Ok(found)
}

fn sbat(entry: &Entry<'_>) -> Result<SbatRule, PolicyError> {
    let mut rule = SbatRule { date: 0, generations: BTreeMap::new() };
    for (name, entry) in entry.entries(32)? {
        if name == "date" {
            rule.date = entry.integer(u64::MAX)?;
        } else {
            let generation = u32::try_from(entry.integer(u32::MAX.into())?).expect("bounded by u32::MAX");
            rule.generations.insert(name.to_owned(), generation);
        }
    }
    Ok(rule)
}

fn sections(table: &mut Section<'_>) -> Result<BTreeMap<&'static str, Vec<MeasuredDigest>>, PolicyError> {
    let Some(entry) = table.optional("uki") else { return Ok(BTreeMap::new()) };
    // Kernel, initrd and command line have keys of their own, wherever they were measured.
    let own = |name: &&str| ![".linux", ".initrd", ".cmdline"].contains(name);
    let names: Vec<&'static str> = SECTIONS.into_iter().filter(own).collect();
    let mut uki = entry.section(&names)?;
    let mut found = BTreeMap::new();
    for name in names {
        let digests = list(&mut uki, name, measured)?;
        if !digests.is_empty() {
            found.insert(name, digests);
        }
    }
    uki.finish()?;
    Ok(found)
}

fn ima(entry: &Entry<'_>) -> Result<ImaRules, PolicyError> {
    let mut table = entry.section(&["policy", "files"])?;
    let policy = table.required("policy", "what ima_policy= says on the command line: policy = \"tcb\"")?;
    let policy = match policy.text()? {
        "" => return Err(policy.value_error("", "the name of a policy of the kernel")),
        text => text.to_owned(),
    };
    let files = table.required("files", "a table: \"/path\" = \"sha256:…\", or a list of them")?;
    let mut found = BTreeMap::new();
    for (path, entry) in files.entries(MAX_IMA_FILES)? {
        let digests = if entry.is_string() { vec![file_digest(&entry)?] } else { entry.list(file_digest)? };
        found.insert(path.to_owned(), digests);
    }
    table.finish()?;
    Ok(ImaRules { policy, files: found })
}

/// `sha256:` and hex, as the list of the kernel prints it; of fs-verity `verity:sha256:`.
fn file_digest(entry: &Entry<'_>) -> Result<String, PolicyError> {
    let text = entry.text()?;
    let (algorithm, hex) = text.strip_prefix("verity:").unwrap_or(text).split_once(':').unwrap_or_default();
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => 0,
    };
    let right = length > 0 && hex.len() == length && hex.bytes().all(|b| b.is_ascii_hexdigit());
    match right {
        true => Ok(text.to_ascii_lowercase()),
        false => Err(entry.value_error(text, "\"sha256:\" and 64 hex digits, or sha384, sha512 alike")),
    }
}
