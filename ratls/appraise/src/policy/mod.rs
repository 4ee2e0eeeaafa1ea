//! The appraisal policy: one TOML file that says what its author accepts.
//!
//! Contract: a key that is left out never accepts more than the strictest answer; an unknown key, an empty list or a zero digest
//! is an error; there is no default policy and no key that turns verification off. The file is read as text by the caller, so
//! this module opens nothing. The reference is `docs/policy.md`.

mod cloud;
mod document;
mod error;
pub mod event_log;
mod identity;
pub mod levels;
mod pattern;
mod reference;
mod snp;
mod summary;
#[cfg(test)]
mod tests;
mod tpm;
mod verity;

use std::time::Duration;

use toml::de::DeTable;

pub use cloud::{
    AkRule, AwsRules, AzureRules, CloudRules, EndorsementRules, GcpRules, NitroTpm, RequiredRoot, StaleReport,
    SvsmRules,
};
pub use error::{PolicyError, PolicyProblem};
pub use event_log::EventLogRules;
pub use identity::{IdentityRule, IdentityRules, LaunchIdentity};
pub use levels::{Component, Level, LevelRule, LevelRules, View};
pub use pattern::{Bindings, Budget, Pattern, Values};
pub use reference::{DigestOrigin, FileProblem, ImageReference, LaunchAnswer, ReferenceFiles, References};
pub use snp::{AbiVersion, AcceptedKey, Bit, MigrateMa, Mitigations, Permission, SnpRules, TcbFloors};
pub use tpm::{Need, PcrRule, TpmIdentity, TpmRules};

use document::{Entry, Section, Source};
use formats::binding::{Profile, UpstreamScope};
use formats::crypto;
use formats::digest::Sha256Digest;
use formats::evidence::snp::Measurement;

/// Largest policy file that is read. Ten times a list of a thousand measurements.
pub const MAX_POLICY_BYTES: usize = 1 << 20;

/// `max_age` may be no longer than this; a longer one is a typo.
const MAX_AGE_LIMIT: Duration = Duration::from_secs(7 * 24 * 3600);

/// The default life of a connection (docs/policy.md, "Keys").
const MAX_AGE_DEFAULT: Duration = Duration::from_secs(24 * 3600);

/// What the user accepts: a complete policy for each platform. Only made by [`AppraisalPolicy::parse`]; no `Default`,
/// because there is no safe one.
///
/// A guest states its platform itself. So nothing here can be asked whether *some* part of the file accepts a value:
/// [`AppraisalPolicy::for_profile`] hands out the one policy that applies to verified evidence, and appraisal sees no other.
#[derive(Debug)]
pub struct AppraisalPolicy {
    file: String,
    digest: Sha256Digest,
    names: Vec<String>,
    simulator_root: Option<String>,
    max_age: Duration,
    /// At least one, and at most one for each profile.
    accepted: Vec<ProfilePolicy>,
}

/// What is accepted of guests of one platform.
#[derive(Debug)]
pub struct ProfilePolicy {
    profile: Profile,
    accepts_simulated: bool,
    identity: IdentityRule,
    snp: SnpRules,
    tpm: TpmRules,
    clouds: CloudRules,
    crl: CrlRule,
    guest: GuestRules,
    levels: LevelRules,
    event_log: Option<EventLogRules>,
    references: References,
}

/// Whether a chain without a revocation list is accepted. A list that is there is always checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrlRule {
    /// Of AMD, and of the clouds' CAs those whose lists the certificates below them announce.
    Require,
    /// Of AMD.
    RequireAmd,
    IfPresent,
}

/// What is accepted of the guest's own statement.
#[derive(Debug)]
pub struct GuestRules {
    /// Empty where the policy names none.
    pub(crate) config: Vec<Sha256Digest>,
    /// `OutsideGuest` accepts both.
    pub(crate) upstream_scope: UpstreamScope,
}

/// Keys that hold for the whole file.
const FILE_KEYS: [&str; 4] = ["version", "names", "roots", "freshness"];

/// Keys of one complete policy: of a file of version 1, or of an `[[accept]]` entry of version 2.
const PROFILE_KEYS: [&str; 13] = [
    "identity",
    "require_roots",
    "snp",
    "tpm",
    "azure",
    "gcp",
    "aws",
    "svsm",
    "endorsements",
    "guest",
    "event_log",
    "levels",
    "reference",
];

impl AppraisalPolicy {
    /// Reads the text of a policy file; `file` names it in errors.
    pub fn parse(text: &str, file: &str) -> Result<AppraisalPolicy, PolicyError> {
        let source = Source { file, text };
        if text.len() > MAX_POLICY_BYTES {
            let problem = PolicyProblem::TooLarge { seen: text.len(), max: MAX_POLICY_BYTES };
            return Err(source.error(0, "(file)", problem));
        }
        let document = DeTable::parse(text).map_err(|e| {
            let offset = e.span().map_or(text.len(), |span| span.start);
            source.error(offset, &key_on_line(text, offset), PolicyProblem::Syntax(e.message().to_owned()))
        })?;
        let known = [&FILE_KEYS[..], &["profiles", "accept"], &PROFILE_KEYS].concat();
        let mut root = Section::open(source, String::new(), 0, document.get_ref(), &known)?;

        let version = root.required("version", "version = 1")?;
        let names = names(&mut root)?;
        let simulator_root = roots(&mut root)?;
        let max_age = freshness(&mut root)?;
        let accepted = match version.integer(u64::MAX)? {
            1 => one_policy(root, simulator_root.is_some())?,
            2 => list_of_policies(root, simulator_root.is_some())?,
            n => return Err(version.error(PolicyProblem::Unsupported(format!("policy version {n}")))),
        };
        let digest = crypto::sha256(&[text.as_bytes()]);
        Ok(AppraisalPolicy { file: file.to_owned(), digest, names, simulator_root, max_age, accepted })
    }

    /// The name it was read under, for messages.
    pub fn file(&self) -> &str {
        &self.file
    }
    /// SHA-256 of the file's text: the policy's name in logs, verdicts and pool keys.
    pub fn digest(&self) -> Sha256Digest {
        self.digest
    }
    /// Returns the complete policy for guests of this platform; `None` if the file accepts none of them.
    pub fn for_profile(&self, profile: Profile) -> Option<&ProfilePolicy> {
        self.accepted.iter().find(|policy| policy.profile == profile)
    }
    /// Returns the policies in the order of the file, to be shown. A verdict needs [`AppraisalPolicy::for_profile`].
    pub fn accepted(&self) -> &[ProfilePolicy] {
        &self.accepted
    }
    /// Returns the platforms of which guests are accepted.
    pub fn profiles(&self) -> Vec<Profile> {
        self.accepted.iter().map(|policy| policy.profile).collect()
    }
    /// Returns the only policy of the file, if there is just one.
    pub fn only(&self) -> Option<&ProfilePolicy> {
        match self.accepted.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }
    /// What applications may ask for: `host` or `host:port`, lower case.
    pub fn names(&self) -> &[String] {
        &self.names
    }
    /// Path of a simulator's root, relative to the policy file's folder. Where it is `Some`, simulated evidence is accepted.
    pub fn anchors_needed(&self) -> Option<&str> {
        self.simulator_root.as_deref()
    }
    /// Path of the root of Google's firmware endorsements, relative to the policy file's folder.
    pub fn gce_firmware_root(&self) -> Option<&str> {
        Some(&self.for_profile(Profile::GcpSnp)?.clouds.gcp.as_ref()?.endorsement.as_ref()?.root)
    }
    /// Computes what the references ask for from their files, which `files` gives. Until it is called, a reference with files
    /// matches nothing.
    pub fn load_references(&mut self, files: &mut dyn ReferenceFiles) -> Result<(), PolicyError> {
        self.accepted.iter_mut().try_for_each(|policy| policy.references.load(files))
    }
    /// How long an accepted result may be relied on.
    pub fn max_age(&self) -> Duration {
        self.max_age
    }
}

/// Version 1: one set of rules for every platform in `profiles`. With several platforms it may hold nothing that concerns
/// only some of them, because a guest that claims another platform would not be held to it.
fn one_policy(mut root: Section<'_>, simulated: bool) -> Result<Vec<ProfilePolicy>, PolicyError> {
    if let Some(entry) = root.optional("accept") {
        return Err(entry.error(PolicyProblem::Conflict("[[accept]] needs version = 2")));
    }
    let profiles = profiles(&mut root)?;
    if let [profile] = profiles.as_slice() {
        return Ok(vec![profile_policy(root, *profile, simulated)?]);
    }
    for key in ["require_roots", "tpm", "azure", "gcp", "aws", "svsm", "event_log", "reference"] {
        if let Some(entry) = root.optional(key) {
            return Err(entry.error(PolicyProblem::OfSomeProfiles));
        }
    }
    let mut accepted = Vec::new();
    for profile in profiles {
        let policy = profile_policy(root.clone(), profile, simulated)?;
        if let Some(problem) = policy.of_one_profile(&root) {
            return Err(problem);
        }
        accepted.push(policy);
    }
    Ok(accepted)
}

/// Version 2: a list of complete policies, each for one platform.
fn list_of_policies(mut root: Section<'_>, simulated: bool) -> Result<Vec<ProfilePolicy>, PolicyError> {
    for key in ["profiles"].into_iter().chain(PROFILE_KEYS) {
        if let Some(entry) = root.optional(key) {
            return Err(entry.error(PolicyProblem::Conflict(
                "in version 2 every rule belongs to an [[accept]] entry, which names its profile",
            )));
        }
    }
    let wanted = "one [[accept]] entry for each platform, with profile = \"snp\" or another";
    let entries =
        root.required("accept", wanted)?.sections(&[&["profile"], &PROFILE_KEYS[..]].concat(), Profile::ALL.len())?;
    let mut accepted: Vec<ProfilePolicy> = Vec::new();
    for mut section in entries {
        let entry = section.required("profile", "the platform that this entry accepts: profile = \"snp\"")?;
        let profile = entry.word(PROFILES)?;
        if accepted.iter().any(|policy| policy.profile == profile) {
            return Err(entry.error(PolicyProblem::Conflict(
                "another [[accept]] entry has this profile; write all that is accepted of a platform into one entry",
            )));
        }
        accepted.push(profile_policy(section, profile, simulated)?);
    }
    root.finish()?;
    Ok(accepted)
}

fn profile_policy(
    mut root: Section<'_>,
    profile: Profile,
    accepts_simulated: bool,
) -> Result<ProfilePolicy, PolicyError> {
    let references = reference::parse(&mut root)?;
    let identity = identity::parse(&mut root)?;
    let clouds = cloud::parse(&mut root, profile)?;
    let elsewhere = snp::Elsewhere { references: &references, clouds: &clouds, identity: &identity };
    let policy = ProfilePolicy {
        profile,
        accepts_simulated,
        snp: snp::parse(&mut root, &elsewhere)?,
        identity,
        tpm: tpm::parse(&mut root, profile)?,
        clouds,
        crl: endorsements(&mut root)?,
        guest: guest(&mut root)?,
        levels: levels::parse(&mut root)?,
        event_log: event_log::parse(&mut root)?,
        references,
    };
    if let (None, Some(error)) = (&policy.event_log, policy.references.needs_event_log()) {
        return Err(error);
    }
    refuse_chip_ids_under_vlek(&mut root, &policy.snp.signing_keys)?;
    root.finish()?;
    Ok(policy)
}

impl ProfilePolicy {
    pub fn profile(&self) -> Profile {
        self.profile
    }
    /// Whether the file names a simulator's root, so that evidence of it is accepted.
    pub fn accepts_simulated(&self) -> bool {
        self.accepts_simulated
    }
    pub fn identity(&self) -> &IdentityRule {
        &self.identity
    }
    pub fn snp(&self) -> &SnpRules {
        &self.snp
    }
    pub fn tpm(&self) -> &TpmRules {
        &self.tpm
    }
    pub fn clouds(&self) -> &CloudRules {
        &self.clouds
    }
    pub fn crl(&self) -> CrlRule {
        self.crl
    }
    pub fn guest(&self) -> &GuestRules {
        &self.guest
    }
    /// What is asked of the trust table.
    pub fn levels(&self) -> &LevelRules {
        &self.levels
    }
    /// What was booted, as far as the policy has rules about it.
    pub fn event_log(&self) -> Option<&EventLogRules> {
        self.event_log.as_ref()
    }
    pub fn references(&self) -> &References {
        &self.references
    }

    /// Whether a verdict rests on the kernel's measurement list: rules are about it, or a level is asked of the userspace.
    pub fn needs_ima(&self) -> bool {
        let userspace = |rule: &LevelRule| rule.component == Component::Userspace && rule.level > Level::L0;
        self.levels.wanted.iter().any(userspace) || self.event_log.as_ref().is_some_and(EventLogRules::needs_ima)
    }

    /// What this policy says of a launch digest: recomputed by a reference, or on a list of digests.
    pub fn launch(&self, measured: &Measurement) -> Option<LaunchAnswer<'_>> {
        let listed = || self.snp.measurements.contains(measured).then_some(LaunchAnswer::Digest(DigestOrigin::Own));
        self.references.launch(measured).or_else(listed)
    }

    /// An error for a value that can only be of one platform, in a file that lists several. A launch digest is one: the
    /// digest of one cloud's firmware would otherwise count on another.
    fn of_one_profile(&self, root: &Section<'_>) -> Option<PolicyError> {
        if matches!(&self.identity, IdentityRule::All(rules) if rules.tpm.is_some()) {
            return Some(root.error_inside("identity", "tpm", PolicyProblem::OfSomeProfiles));
        }
        // Of a cloud's CAs only its own guests have lists.
        if self.crl == CrlRule::Require {
            return Some(root.error_inside("endorsements", "crl", PolicyProblem::OfSomeProfiles));
        }
        (!self.snp.measurements.is_empty())
            .then(|| root.error_inside("snp", "measurements", PolicyProblem::OfSomeProfiles))
    }
}

/// The text before `=` on the line of a syntax error, to name the key where there is one.
fn key_on_line(text: &str, offset: usize) -> String {
    let start = text.as_bytes().get(..offset).and_then(|b| b.iter().rposition(|b| *b == b'\n')).map_or(0, |i| i + 1);
    let line = text.get(start..).unwrap_or_default().lines().next().unwrap_or_default();
    match line.split('=').next().map(str::trim) {
        None | Some("") => "(syntax)".to_owned(),
        Some(key) => document::shown(key),
    }
}

const PROFILES: &[(&str, Profile)] = &[
    ("snp", Profile::Snp),
    ("azure-snp", Profile::AzureSnp),
    ("gcp-snp", Profile::GcpSnp),
    ("aws-snp", Profile::AwsSnp),
    ("svsm-snp", Profile::SvsmSnp),
];

fn profiles(root: &mut Section<'_>) -> Result<Vec<Profile>, PolicyError> {
    let entry = root.required("profiles", "the platforms that are accepted: profiles = [\"snp\"]")?;
    entry.list(|e| e.word(PROFILES))
}

fn names(root: &mut Section<'_>) -> Result<Vec<String>, PolicyError> {
    let Some(entry) = root.optional("names") else { return Ok(Vec::new()) };
    entry.list(|e| {
        let text = e.text()?;
        // 253 is the longest DNS name; 6 more for a port.
        let fits = !text.is_empty() && text.len() <= 253 + 6;
        if fits && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b)) {
            Ok(text.to_ascii_lowercase())
        } else {
            Err(e.value_error(text, "a host name or host:port, without wildcards"))
        }
    })
}

fn endorsements(root: &mut Section<'_>) -> Result<CrlRule, PolicyError> {
    let Some(entry) = root.optional("endorsements") else { return Ok(CrlRule::IfPresent) };
    let mut table = entry.section(&["crl"])?;
    let crl = table.required("crl", "\"require\" or \"if-present\"")?.word(&[
        ("require", CrlRule::Require),
        ("require-amd", CrlRule::RequireAmd),
        ("if-present", CrlRule::IfPresent),
    ])?;
    table.finish()?;
    Ok(crl)
}

fn roots(root: &mut Section<'_>) -> Result<Option<String>, PolicyError> {
    let Some(entry) = root.optional("roots") else { return Ok(None) };
    let mut table = entry.section(&["simulator"])?;
    let path = table.required("simulator", "the file of the simulator's root certificate")?;
    table.finish()?;
    match path.text()? {
        "" => Err(path.value_error("", "the name of a file")),
        text => Ok(Some(text.to_owned())),
    }
}

fn guest(root: &mut Section<'_>) -> Result<GuestRules, PolicyError> {
    let Some(entry) = root.optional("guest") else {
        return Ok(GuestRules { config: Vec::new(), upstream_scope: UpstreamScope::InsideGuest });
    };
    let mut table = entry.section(&["config", "upstream_scope"])?;
    let rules = GuestRules {
        config: match table.optional("config") {
            None => Vec::new(),
            Some(e) => e.list(|e| e.hex(Sha256Digest::from_hex, Sha256Digest::is_zero))?,
        },
        upstream_scope: table.optional("upstream_scope").map_or(Ok(UpstreamScope::InsideGuest), |e| {
            e.word(&[
                ("inside", UpstreamScope::InsideGuest),
                ("plaintext leaves the guest", UpstreamScope::OutsideGuest),
            ])
        })?,
    };
    table.finish()?;
    Ok(rules)
}

/// Only evidence that hardware signed for this connection is accepted; the key is there so that a file can say it.
fn freshness(root: &mut Section<'_>) -> Result<Duration, PolicyError> {
    let Some(entry) = root.optional("freshness") else { return Ok(MAX_AGE_DEFAULT) };
    let mut table = entry.section(&["hw", "max_age"])?;
    if let Some(hw) = table.optional("hw")
        && !hw.word(&[("connect", true), ("within", false)])?
    {
        return Err(hw.error(PolicyProblem::Unsupported("freshness \"within\"".to_owned())));
    }
    let max_age = match table.optional("max_age") {
        None => MAX_AGE_DEFAULT,
        Some(e) => time_span(&e)?,
    };
    table.finish()?;
    Ok(max_age)
}

fn time_span(entry: &Entry<'_>) -> Result<Duration, PolicyError> {
    let text = entry.text()?;
    duration(text)
        .filter(|d| !d.is_zero() && *d <= MAX_AGE_LIMIT)
        .ok_or_else(|| entry.value_error(text, "a time such as \"24h\", \"30m\" or \"90s\", at most 168h"))
}

fn duration(text: &str) -> Option<Duration> {
    let unit = match text.bytes().last()? {
        b's' => 1,
        b'm' => 60,
        b'h' => 3600,
        _ => return None,
    };
    let number = text.get(..text.len() - 1)?;
    let count: u64 = number.bytes().all(|b| b.is_ascii_digit()).then(|| number.parse().ok())??;
    Some(Duration::from_secs(count.checked_mul(unit)?))
}

/// A report under a VLEK carries no chip id, so such a policy could accept nothing.
fn refuse_chip_ids_under_vlek(root: &mut Section<'_>, keys: &[AcceptedKey]) -> Result<(), PolicyError> {
    if keys.contains(&AcceptedKey::Vcek) {
        return Ok(());
    }
    match identity::chip_ids(root)? {
        None => Ok(()),
        Some(chip_ids) => Err(chip_ids.error(PolicyProblem::Conflict(
            "can never hold: signing_keys lists only \"vlek\", whose reports carry no chip id",
        ))),
    }
}
