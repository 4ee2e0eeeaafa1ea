//! Which machine or guest the policy expects (docs/policy.md, "Identity").
//!
//! A measurement says what runs, never where or for whom: without an identity rule anybody's guest with the same image will do.
//! So the rule is mandatory, and its absence must be spelt `identity = "any"`. Several rules in the table must all hold.
//! Rules that need a PKI or an owner's CA are not in this version.

use super::document::{Entry, Section};
use super::error::{PolicyError, PolicyProblem};
use super::tpm::{self, TpmIdentity};
use formats::evidence::snp::{ChipId, HostData, KeyDigest, ReportId};

/// The identity rule.
#[derive(Debug)]
#[non_exhaustive]
pub enum IdentityRule {
    /// Said explicitly: any machine and any owner. Shown in every verdict.
    Any,
    /// All of these must hold; there is at least one.
    All(IdentityRules),
}

/// At least one of the fields is present. An absent one asks nothing.
#[derive(Debug)]
pub struct IdentityRules {
    pub(crate) chip_ids: Option<Vec<ChipId>>,
    pub(crate) report_ids: Option<Vec<ReportId>>,
    pub(crate) launch_identity: Option<LaunchIdentity>,
    pub(crate) tpm: Option<Box<TpmIdentity>>,
}

/// A guest launched with an ID block that the owner of `id_key_digest` signed.
#[derive(Debug)]
pub struct LaunchIdentity {
    pub(crate) id_key_digest: KeyDigest,
    pub(crate) author_key_digest: Option<KeyDigest>,
    pub(crate) min_guest_svn: u32,
    pub(crate) host_data: Option<HostData>,
}

const RULES: &[&str] = &["chip_ids", "report_ids", "launch_identity", "tpm"];

const WANTED: &str =
    "identity = \"any\", or an [identity] table with at least one of chip_ids, report_ids, launch_identity, tpm";

pub(super) fn parse(root: &mut Section<'_>) -> Result<IdentityRule, PolicyError> {
    let entry = root.required("identity", WANTED)?;
    if entry.is_string() {
        return entry.word(&[("any", ())]).map(|()| IdentityRule::Any);
    }
    let mut table = entry.section(RULES)?;
    let rules = IdentityRules {
        chip_ids: table
            .optional("chip_ids")
            .map(|e| e.list(|id| id.hex(ChipId::from_hex, ChipId::is_zero)))
            .transpose()?,
        report_ids: table
            .optional("report_ids")
            .map(|e| e.list(|id| id.hex(ReportId::from_hex, ReportId::is_zero)))
            .transpose()?,
        launch_identity: table.optional("launch_identity").map(|e| launch_identity(&e)).transpose()?,
        tpm: table.optional("tpm").map(|e| tpm::identity(&e).map(Box::new)).transpose()?,
    };
    table.finish()?;
    let IdentityRules { chip_ids, report_ids, launch_identity, tpm } = &rules;
    if chip_ids.is_none() && report_ids.is_none() && launch_identity.is_none() && tpm.is_none() {
        return Err(entry.error(PolicyProblem::Missing { wanted: WANTED }));
    }
    Ok(IdentityRule::All(rules))
}

/// Where the chip ids stand, for an error about them.
pub(super) fn chip_ids<'d>(root: &mut Section<'d>) -> Result<Option<Entry<'d>>, PolicyError> {
    match root.optional("identity") {
        Some(entry) if !entry.is_string() => Ok(entry.section(RULES)?.optional("chip_ids")),
        _ => Ok(None),
    }
}

fn launch_identity(entry: &Entry<'_>) -> Result<LaunchIdentity, PolicyError> {
    let mut table = entry.section(&["id_key_digest", "author_key_digest", "min_guest_svn", "host_data"])?;
    let digest = |e: Entry<'_>| e.hex(KeyDigest::from_hex, KeyDigest::is_zero);
    let identity = LaunchIdentity {
        id_key_digest: digest(table.required("id_key_digest", "SHA-384 of the key that signed the ID block")?)?,
        author_key_digest: table.optional("author_key_digest").map(digest).transpose()?,
        min_guest_svn: svn(&table.required("min_guest_svn", "the lowest guest_svn of the ID block that is accepted")?)?,
        host_data: table.optional("host_data").map(|e| e.hex(HostData::from_hex, HostData::is_zero)).transpose()?,
    };
    table.finish()?;
    Ok(identity)
}

pub(super) fn svn(entry: &Entry<'_>) -> Result<u32, PolicyError> {
    Ok(u32::try_from(entry.integer(u32::MAX.into())?).expect("bounded by u32::MAX"))
}
