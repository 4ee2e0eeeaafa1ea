//! `[azure]`, `[gcp]`, `[aws]` and `[svsm]` of a policy: what is accepted of a platform beyond report and registers.
//!
//! A table of a platform that `profiles` does not name is an error: it would look as if it held something.

use std::time::Duration;

use super::document::{Entry, Section};
use super::error::{PolicyError, PolicyProblem};
use super::snp::Permission;
use super::tpm::{NEEDS, Need};
use formats::binding::Profile;
use formats::time::UnixTime;

/// Azure: what the paravisor says of itself and of the VM.
#[derive(Debug)]
pub struct AzureRules {
    pub(crate) stale_report: StaleReport,
    pub(crate) ak_certificate: Need,
    /// Secure boot off.
    pub(crate) insecure_boot: Permission,
    /// The serial console, which the host has the other end of.
    pub(crate) console: Permission,
}

/// Whether a report of an old paravisor is accepted, which anybody who saw it once can show again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StaleReport {
    Refuse,
    /// The user wrote out what that means.
    AcceptOfUnknownAge,
}

/// Google: whose VM it is, and which of Google's firmware.
#[derive(Debug)]
pub struct GcpRules {
    /// Empty where the policy names none.
    pub(crate) projects: Vec<String>,
    pub(crate) zones: Vec<String>,
    /// Whether PCR 0 must be that of firmware under SEV-SNP.
    pub(crate) snp_firmware_in_pcr0: bool,
    pub(crate) endorsement: Option<EndorsementRules>,
}

/// An endorsement of Google's must be there, and be as new.
#[derive(Debug)]
pub struct EndorsementRules {
    /// Path of the root, relative to the policy file's folder.
    pub(crate) root: String,
    pub(crate) min_svn: u32,
    pub(crate) not_before: Option<UnixTime>,
}

/// AWS: what vouches for the PCRs.
#[derive(Debug)]
pub struct AwsRules {
    pub(crate) vtpm: NitroTpm,
    pub(crate) max_document_age: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NitroTpm {
    /// A document of the Nitro system.
    Document,
    /// Said explicitly: nothing but the report.
    None,
}

/// An SVSM's vTPM.
#[derive(Debug)]
pub struct SvsmRules {
    pub(crate) ak: AkRule,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AkRule {
    /// Proven to live in the TPM whose EK the SVSM named.
    Proven,
    /// The user wrote out what that means.
    AcceptUnproven,
}

/// Which hierarchies must vouch, so that an attacker has to break both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequiredRoot {
    Amd,
    Csp,
}

/// The tables of all platforms; each is there exactly if the policy is for its platform.
#[derive(Debug)]
pub struct CloudRules {
    pub(crate) azure: Option<AzureRules>,
    pub(crate) gcp: Option<GcpRules>,
    pub(crate) aws: Option<AwsRules>,
    pub(crate) svsm: Option<SvsmRules>,
    pub(crate) required_roots: Vec<RequiredRoot>,
}

const PERMISSIONS: &[(&str, Permission)] = &[("refuse", Permission::Refuse), ("allow", Permission::Allow)];

pub(super) fn parse(root: &mut Section<'_>, accepted: Profile) -> Result<CloudRules, PolicyError> {
    Ok(CloudRules {
        azure: table(root, "azure", accepted, Profile::AzureSnp, azure)?,
        gcp: table(root, "gcp", accepted, Profile::GcpSnp, gcp)?,
        aws: table(root, "aws", accepted, Profile::AwsSnp, aws)?,
        svsm: table(root, "svsm", accepted, Profile::SvsmSnp, svsm)?,
        required_roots: required_roots(root, accepted)?,
    })
}

/// The rules of one platform, from its table or without one.
fn table<'d, T>(
    root: &mut Section<'d>,
    name: &'static str,
    accepted: Profile,
    profile: Profile,
    read: fn(Option<&Entry<'d>>) -> Result<T, PolicyError>,
) -> Result<Option<T>, PolicyError> {
    let entry = root.optional(name);
    if accepted == profile {
        return read(entry.as_ref()).map(Some);
    }
    match entry {
        None => Ok(None),
        Some(entry) => {
            Err(entry.error(PolicyProblem::Conflict("has no effect: this policy is for guests of another platform")))
        }
    }
}

fn azure(entry: Option<&Entry<'_>>) -> Result<AzureRules, PolicyError> {
    let mut rules = AzureRules {
        stale_report: StaleReport::Refuse,
        ak_certificate: Need::IfPresent,
        insecure_boot: Permission::Refuse,
        console: Permission::Refuse,
    };
    let Some(entry) = entry else { return Ok(rules) };
    let mut table = entry.section(&["stale_report", "ak_certificate", "insecure_boot", "console"])?;
    if let Some(e) = table.optional("stale_report") {
        rules.stale_report = e.word(&[
            ("refuse", StaleReport::Refuse),
            ("accept a report of unknown age", StaleReport::AcceptOfUnknownAge),
        ])?;
    }
    if let Some(e) = table.optional("ak_certificate") {
        rules.ak_certificate = e.word(NEEDS)?;
    }
    if let Some(e) = table.optional("insecure_boot") {
        rules.insecure_boot = e.word(PERMISSIONS)?;
    }
    if let Some(e) = table.optional("console") {
        rules.console = e.word(PERMISSIONS)?;
    }
    table.finish()?;
    Ok(rules)
}

fn gcp(entry: Option<&Entry<'_>>) -> Result<GcpRules, PolicyError> {
    let mut rules = GcpRules { projects: Vec::new(), zones: Vec::new(), snp_firmware_in_pcr0: true, endorsement: None };
    let Some(entry) = entry else { return Ok(rules) };
    let mut table =
        entry.section(&["projects", "zones", "pcr0", "endorsement_root", "min_svn", "endorsed_not_before"])?;
    if let Some(e) = table.optional("projects") {
        rules.projects = e.list(name)?;
    }
    if let Some(e) = table.optional("zones") {
        rules.zones = e.list(name)?;
    }
    if let Some(e) = table.optional("pcr0") {
        rules.snp_firmware_in_pcr0 = e.word(&[("sev-snp", true), ("not compared", false)])?;
    }
    // Without a root, the two others stay unread and are refused as having no effect.
    if let Some(e) = table.optional("endorsement_root") {
        let root = match e.text()? {
            "" => return Err(e.value_error("", "the name of a file")),
            text => text.to_owned(),
        };
        let min_svn = match table.optional("min_svn") {
            None => 0,
            Some(e) => u32::try_from(e.integer(u32::MAX.into())?).expect("bounded by u32::MAX"),
        };
        let not_before = match table.optional("endorsed_not_before") {
            None => None,
            Some(e) => {
                let text = e.text()?;
                let time = UnixTime::parse_rfc3339(text);
                Some(time.map_err(|_| e.value_error(text, "a time such as \"2026-01-31T00:00:00Z\", as a string"))?)
            }
        };
        rules.endorsement = Some(EndorsementRules { root, min_svn, not_before });
    }
    table.finish()?;
    Ok(rules)
}

/// A project, which may have a domain before it, or a zone.
fn name(entry: &Entry<'_>) -> Result<String, PolicyError> {
    let text = entry.text()?;
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:".contains(&b)) {
        Ok(text.to_owned())
    } else {
        Err(entry.value_error(text, "the whole name, without wildcards"))
    }
}

fn aws(entry: Option<&Entry<'_>>) -> Result<AwsRules, PolicyError> {
    let mut rules = AwsRules { vtpm: NitroTpm::Document, max_document_age: None };
    let Some(entry) = entry else { return Ok(rules) };
    let mut table = entry.section(&["vtpm", "max_document_age"])?;
    if let Some(e) = table.optional("vtpm") {
        rules.vtpm = e.word(&[("document", NitroTpm::Document), ("none", NitroTpm::None)])?;
    }
    if rules.vtpm == NitroTpm::Document
        && let Some(e) = table.optional("max_document_age")
    {
        rules.max_document_age = Some(super::time_span(&e)?);
    }
    table.finish()?;
    Ok(rules)
}

fn svsm(entry: Option<&Entry<'_>>) -> Result<SvsmRules, PolicyError> {
    let mut rules = SvsmRules { ak: AkRule::Proven };
    let Some(entry) = entry else { return Ok(rules) };
    let mut table = entry.section(&["ak"])?;
    if let Some(e) = table.optional("ak") {
        rules.ak =
            e.word(&[("proven", AkRule::Proven), ("accept a key that nobody vouches for", AkRule::AcceptUnproven)])?;
    }
    table.finish()?;
    Ok(rules)
}

/// AMD's root is always required: there is no evidence without a report.
fn required_roots(root: &mut Section<'_>, profile: Profile) -> Result<Vec<RequiredRoot>, PolicyError> {
    let Some(entry) = root.optional("require_roots") else { return Ok(vec![RequiredRoot::Amd]) };
    let roots = entry.list(|e| e.word(&[("amd", RequiredRoot::Amd), ("csp", RequiredRoot::Csp)]))?;
    if !roots.contains(&RequiredRoot::Amd) {
        return Err(entry.error(PolicyProblem::Missing { wanted: "\"amd\": no evidence is accepted without its root" }));
    }
    let clouds = [Profile::AzureSnp, Profile::GcpSnp, Profile::AwsSnp];
    if roots.contains(&RequiredRoot::Csp) && !clouds.contains(&profile) {
        return Err(entry.error(PolicyProblem::Conflict(
            "can never hold for profiles \"snp\" and \"svsm-snp\": there no provider vouches for anything",
        )));
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::AppraisalPolicy;

    fn parse(profiles: &str, more: &str) -> Result<AppraisalPolicy, String> {
        let text = format!(
            "version = 1\nprofiles = [{profiles}]\nidentity = \"any\"\n{more}\n[snp]\nmeasurements = [\"{}\"]\n\
             signing_keys = [\"vcek\"]\n[snp.minimum_tcb.milan]\nbl = 4\ntee = 0\nsnp = 24\nucode = 219\n",
            "a".repeat(96)
        );
        AppraisalPolicy::parse(&text, "p").map_err(|e| format!("{}: {}", e.key(), e.problem()))
    }

    #[track_caller]
    fn refused(profiles: &str, more: &str, wanted: &str) {
        let error = parse(profiles, more).unwrap_err();
        assert!(error.contains(wanted), "{error}");
    }

    #[test]
    fn what_is_left_out_has_the_strictest_answer() {
        for profile in ["azure-snp", "gcp-snp", "aws-snp", "svsm-snp"] {
            let file = parse(&format!("\"{profile}\""), "").unwrap();
            let policy = file.only().unwrap();
            assert_eq!(policy.tpm().quote, Need::Require);
            let clouds = policy.clouds();
            assert_eq!(clouds.required_roots, [RequiredRoot::Amd]);
            let present = [clouds.azure.is_some(), clouds.gcp.is_some(), clouds.aws.is_some(), clouds.svsm.is_some()];
            assert_eq!(present.into_iter().filter(|there| *there).count(), 1, "{profile}");
            if let Some(azure) = &clouds.azure {
                assert_eq!(azure.stale_report, StaleReport::Refuse);
                assert_eq!((azure.console, azure.insecure_boot), (Permission::Refuse, Permission::Refuse));
            }
            assert!(clouds.gcp.as_ref().is_none_or(|gcp| gcp.snp_firmware_in_pcr0));
            assert!(clouds.aws.as_ref().is_none_or(|aws| aws.vtpm == NitroTpm::Document));
            assert!(clouds.svsm.as_ref().is_none_or(|svsm| svsm.ak == AkRule::Proven));
        }
        let plain = parse("\"snp\"", "").unwrap();
        assert!(plain.only().unwrap().clouds().azure.is_none() && plain.only().unwrap().clouds().svsm.is_none());
    }

    #[test]
    fn every_table_is_read_and_dangerous_words_are_long() {
        let azure = parse(
            "\"azure-snp\"",
            "[azure]\nstale_report = \"accept a report of unknown age\"\nak_certificate = \"require\"\n\
             insecure_boot = \"allow\"\nconsole = \"allow\"\n",
        )
        .unwrap();
        assert_eq!(
            azure.only().unwrap().clouds().azure.as_ref().unwrap().stale_report,
            StaleReport::AcceptOfUnknownAge
        );
        let both = "[azure]\nstale_report = \"accept a report of unknown age\"\n[levels]\nview = \"relaxed\"\nkernel = \"L2 vtpm\"\n";
        let both = parse("\"azure-snp\"", both).unwrap();
        let noted =
            |policy: &AppraisalPolicy| policy.cautions().iter().any(|text| text.starts_with("view and stale_report"));
        assert!(noted(&both) && !noted(&azure));
        let gcp = parse(
            "\"gcp-snp\"",
            "[gcp]\nprojects = [\"example.com:p\"]\nzones = [\"us-central1-a\"]\npcr0 = \"not compared\"\n\
             endorsement_root = \"root.crt\"\nmin_svn = 3\nendorsed_not_before = \"2026-01-01T00:00:00Z\"\n",
        )
        .unwrap();
        let endorsement = gcp.only().unwrap().clouds().gcp.as_ref().unwrap().endorsement.as_ref().unwrap();
        assert_eq!((endorsement.root.as_str(), endorsement.min_svn), ("root.crt", 3));
        let aws = parse("\"aws-snp\"", "[aws]\nmax_document_age = \"5m\"\n").unwrap();
        assert_eq!(aws.only().unwrap().clouds().aws.as_ref().unwrap().max_document_age, Some(Duration::from_secs(300)));
        assert!(parse("\"svsm-snp\"", "[svsm]\nak = \"accept a key that nobody vouches for\"\n").is_ok());
        assert!(parse("\"gcp-snp\"", "require_roots = [\"amd\", \"csp\"]\n").is_ok());
    }

    #[test]
    fn what_has_no_effect_or_does_not_exist_is_refused() {
        refused("\"snp\"", "[azure]\nconsole = \"allow\"\n", "azure: has no effect");
        refused("\"azure-snp\"", "[gcp]\n", "gcp: has no effect");
        refused("\"azure-snp\"", "[azure]\nx = 1\n", "azure.x: unknown key");
        refused("\"azure-snp\"", "[azure]\nstale_report = \"allow\"\n", "azure.stale_report");
        refused("\"gcp-snp\"", "[gcp]\nmin_svn = 3\n", "has no effect beside the other keys");
        refused("\"gcp-snp\"", "[gcp]\nprojects = [\"*\"]\n", "without wildcards");
        refused("\"aws-snp\"", "[aws]\nvtpm = \"none\"\nmax_document_age = \"5m\"\n", "has no effect beside");
        refused("\"svsm-snp\"", "[svsm]\nak = \"any\"\n", "svsm.ak");
        refused("\"snp\"", "[tpm]\n", "tpm: has no effect");
        refused("\"gcp-snp\"", "require_roots = [\"csp\"]\n", "\"amd\"");
        refused("\"snp\"", "require_roots = [\"amd\", \"csp\"]\n", "can never hold");
        refused("\"snp\"", "require_roots = []\n", "an empty list");
    }
}
