//! `[tpm]` of a policy: what a vTPM must show, whatever the platform; and the rules about whose vTPM it is.
//!
//! What a register means is not said here, and neither is what a log must say: values that are named are compared with what the
//! TPM signed. Registers that whoever is in the guest can reset, or that a dynamic launch owns, cannot be named (N41).

use super::document::{Entry, Section};
use super::error::{PolicyError, PolicyProblem};
use formats::binding::Profile;
use formats::digest::HexError;
use formats::evidence::tpm::{Bank, PcrValue};

/// Whether something must be there, or counts only where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    Require,
    IfPresent,
}

pub(super) const NEEDS: &[(&str, Need)] = &[("require", Need::Require), ("if-present", Need::IfPresent)];

/// What is accepted of a vTPM.
#[derive(Debug)]
pub struct TpmRules {
    pub(crate) quote: Need,
    /// Never empty.
    pub(crate) banks: Vec<Bank>,
    /// Accepted values of a register of a bank. Empty where the policy names none.
    pub(crate) pcrs: Vec<PcrRule>,
    /// Registers that must be shown, whatever they hold.
    pub(crate) require_pcrs: Vec<u8>,
}

/// One register and what it may hold.
#[derive(Debug)]
pub struct PcrRule {
    pub(crate) bank: Bank,
    pub(crate) index: u8,
    /// Never empty.
    pub(crate) accepted: Vec<PcrValue>,
}

impl TpmRules {
    /// What holds without a `[tpm]` table.
    fn strict() -> Self {
        TpmRules {
            quote: Need::Require,
            banks: vec![Bank::Sha256, Bank::Sha384],
            pcrs: Vec::new(),
            require_pcrs: Vec::new(),
        }
    }
}

const BANKS: &[(&str, Bank)] = &[("sha256", Bank::Sha256), ("sha384", Bank::Sha384)];

/// Names of the registers, as keys of a table.
const INDICES: [&str; 24] = [
    "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "17", "18", "19", "20",
    "21", "22", "23",
];

pub(super) fn parse(root: &mut Section<'_>, profile: Profile) -> Result<TpmRules, PolicyError> {
    let mut rules = TpmRules::strict();
    let Some(entry) = root.optional("tpm") else { return Ok(rules) };
    if profile == Profile::Snp {
        return Err(entry.error(PolicyProblem::Conflict("has no effect: profile \"snp\" has no TPM")));
    }
    let mut table = entry.section(&["quote", "banks", "pcrs", "require_pcrs"])?;
    if let Some(e) = table.optional("quote") {
        rules.quote = e.word(NEEDS)?;
    }
    if let Some(e) = table.optional("banks") {
        rules.banks = e.list(|e| e.word(BANKS))?;
    }
    if let Some(e) = table.optional("pcrs") {
        rules.pcrs = pcrs(&e, &rules.banks)?;
    }
    if let Some(e) = table.optional("require_pcrs") {
        rules.require_pcrs = e.list(|e| {
            let index = u8::try_from(e.integer(23)?).expect("at most 23");
            usable(e, index).map(|()| index)
        })?;
    }
    table.finish()?;
    Ok(rules)
}

fn pcrs(entry: &Entry<'_>, banks: &[Bank]) -> Result<Vec<PcrRule>, PolicyError> {
    let words: Vec<&str> = BANKS.iter().map(|(word, _)| *word).collect();
    let mut table = entry.section(&words)?;
    let mut rules = Vec::new();
    for (word, bank) in BANKS {
        let Some(entry) = table.optional(word) else { continue };
        if !banks.contains(bank) {
            return Err(entry.error(PolicyProblem::Conflict("names registers of a bank that `banks` does not accept")));
        }
        let mut registers = entry.section(&INDICES)?;
        let before = rules.len();
        for (index, name) in (0u8..).zip(INDICES) {
            let Some(entry) = registers.optional(name) else { continue };
            usable(&entry, index)?;
            let value = |e: &Entry<'_>| e.hex(|text| pcr_value(*bank, text), |_| false);
            let accepted = if entry.is_string() { vec![value(&entry)?] } else { entry.list(value)? };
            rules.push(PcrRule { bank: *bank, index, accepted });
        }
        registers.finish()?;
        if rules.len() == before {
            return Err(entry.error(PolicyProblem::Missing { wanted: "registers and their values: \"7\" = \"…hex…\"" }));
        }
    }
    table.finish()?;
    if rules.is_empty() {
        return Err(entry.error(PolicyProblem::Missing { wanted: "a table sha256 or sha384" }));
    }
    Ok(rules)
}

/// A register of zeros is a value like any other: one that nothing was measured into.
fn pcr_value(bank: Bank, text: &str) -> Result<PcrValue, HexError> {
    let refused = || HexError { wanted: 2 * bank.size(), seen: text.chars().count() };
    hex::decode(text).ok().and_then(|bytes| PcrValue::new(bank, &bytes)).ok_or_else(refused)
}

/// TCG PC Client Platform TPM Profile, §4.6: 16 and 23 can be reset by whoever runs, 17 to 22 are a dynamic launch's.
fn usable(entry: &Entry<'_>, index: u8) -> Result<(), PolicyError> {
    match index {
        16 | 23 => Err(entry.error(PolicyProblem::Conflict(
            "proves nothing: whoever is in the guest can reset PCR 16 and 23 and fill them anew",
        ))),
        17..=22 => Err(entry.error(PolicyProblem::Conflict(
            "proves nothing: PCR 17 to 22 belong to a dynamic launch, which no platform here has",
        ))),
        _ => Ok(()),
    }
}

// ---- whose vTPM

/// Whose vTPM it must be. Each list is for one platform's evidence; of those for a platform all must hold.
#[derive(Debug)]
pub struct TpmIdentity {
    /// Names of AKs (`nameAlg ‖ H(TPMT_PUBLIC)`), for every platform.
    pub(crate) ak_names: Option<Vec<Vec<u8>>>,
    /// vmUniqueId of Azure, lower case.
    pub(crate) azure_vm_ids: Option<Vec<String>>,
    pub(crate) gce_instance_ids: Option<Vec<u64>>,
    /// Instances of AWS, as in the module id of a NitroTPM document.
    pub(crate) ec2_instance_ids: Option<Vec<String>>,
}

const IDENTITY_KEYS: &[&str] = &["ak_names", "azure_vm_ids", "gce_instance_ids", "ec2_instance_ids"];

pub(super) fn identity(entry: &Entry<'_>) -> Result<TpmIdentity, PolicyError> {
    let mut table = entry.section(IDENTITY_KEYS)?;
    let rules = TpmIdentity {
        ak_names: table.optional("ak_names").map(|e| e.list(ak_name)).transpose()?,
        azure_vm_ids: table.optional("azure_vm_ids").map(|e| e.list(uuid)).transpose()?,
        gce_instance_ids: table.optional("gce_instance_ids").map(|e| e.list(instance_id)).transpose()?,
        ec2_instance_ids: table.optional("ec2_instance_ids").map(|e| e.list(ec2_instance)).transpose()?,
    };
    table.finish()?;
    let TpmIdentity { ak_names, azure_vm_ids, gce_instance_ids, ec2_instance_ids } = &rules;
    if ak_names.is_none() && azure_vm_ids.is_none() && gce_instance_ids.is_none() && ec2_instance_ids.is_none() {
        let wanted = "at least one of ak_names, azure_vm_ids, gce_instance_ids, ec2_instance_ids";
        return Err(entry.error(PolicyProblem::Missing { wanted }));
    }
    Ok(rules)
}

/// SHA-256, SHA-384 or SHA-512 behind the algorithm's two bytes.
fn ak_name(entry: &Entry<'_>) -> Result<Vec<u8>, PolicyError> {
    let text = entry.text()?;
    let lengths: &[(&str, usize)] = &[("000b", 68), ("000c", 100), ("000d", 132)];
    let lower = text.to_ascii_lowercase();
    let fits = lengths.iter().any(|(algorithm, digits)| lower.starts_with(algorithm) && lower.len() == *digits);
    match hex::decode(&lower) {
        Ok(name) if fits => Ok(name),
        _ => Err(entry.value_error(text, "the name of an AK: 000b and 64 hex digits, or 000c and 96")),
    }
}

fn uuid(entry: &Entry<'_>) -> Result<String, PolicyError> {
    let text = entry.text()?;
    let groups: Vec<usize> = text.split('-').map(str::len).collect();
    let digits = text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit());
    if groups == [8, 4, 4, 4, 12] && digits {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(entry.value_error(text, "a vmUniqueId such as \"7df7b373-b947-4aaa-96e5-c358f2a03d20\""))
    }
}

/// A text, because they use all 64 bits and an integer of TOML has a sign.
fn instance_id(entry: &Entry<'_>) -> Result<u64, PolicyError> {
    let text = entry.text()?;
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let value = if digits { text.parse().ok() } else { None };
    value.ok_or_else(|| entry.value_error(text, "an instance id in digits, as a string: \"3414240648225485836\""))
}

fn ec2_instance(entry: &Entry<'_>) -> Result<String, PolicyError> {
    let text = entry.text()?;
    match text.strip_prefix("i-") {
        Some(id) if !id.is_empty() && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) => Ok(text.to_owned()),
        _ => Err(entry.value_error(text, "an instance id such as \"i-01234567890abcdef\"")),
    }
}

#[cfg(test)]
mod tests {
    use crate::policy::AppraisalPolicy;

    /// A policy for Azure with these lines behind it.
    fn parse(more: &str) -> Result<AppraisalPolicy, String> {
        let text = format!(
            "version = 1\nprofiles = [\"azure-snp\"]\nidentity = \"any\"\n[snp]\nmeasurements = [\"{}\"]\n\
             signing_keys = [\"vcek\"]\n[snp.minimum_tcb.milan]\nbl = 4\ntee = 0\nsnp = 24\nucode = 219\n{more}",
            "a".repeat(96)
        );
        AppraisalPolicy::parse(&text, "p").map_err(|e| format!("{}: {}", e.key(), e.problem()))
    }

    #[track_caller]
    fn refused(more: &str, wanted: &str) {
        let error = parse(more).unwrap_err();
        assert!(error.contains(wanted), "{error}");
    }

    #[test]
    fn registers_are_named_by_bank_and_number_with_one_or_several_values() {
        let (a, b, c) = ("00".repeat(32), "11".repeat(32), "22".repeat(48));
        let policy = parse(&format!(
            "[tpm]\nrequire_pcrs = [7]\n[tpm.pcrs.sha256]\n4 = [\"{a}\", \"{b}\"]\n11 = \"{a}\"\n[tpm.pcrs.sha384]\n0 = \"{c}\"\n"
        ))
        .unwrap();
        let seen: Vec<_> =
            policy.only().unwrap().tpm().pcrs.iter().map(|r| (r.bank.as_str(), r.index, r.accepted.len())).collect();
        assert_eq!(seen, [("sha256", 4, 2), ("sha256", 11, 1), ("sha384", 0, 1)]);
        assert_eq!(policy.only().unwrap().tpm().require_pcrs, [7]);
        refused(&format!("[tpm.pcrs.sha256]\n24 = \"{a}\"\n"), "tpm.pcrs.sha256.24: unknown key");
        refused("[tpm.pcrs.sha256]\n4 = \"00\"\n", "tpm.pcrs.sha256.4: wanted 64 hex digits");
        refused(&format!("[tpm.pcrs.sha384]\n4 = \"{a}\"\n"), "wanted 96 hex digits");
        refused("[tpm.pcrs.sha256]\n4 = []\n", "an empty list");
        refused("[tpm.pcrs.sha256]\n", "tpm.pcrs.sha256: missing");
        refused("[tpm.pcrs]\n", "tpm.pcrs: missing");
        refused("[tpm.pcrs.sha1]\n", "tpm.pcrs.sha1: unknown key");
        refused(&format!("[tpm]\nbanks = [\"sha384\"]\n[tpm.pcrs.sha256]\n4 = \"{a}\"\n"), "`banks` does not accept");
        refused("[tpm]\nx = 1\n", "tpm.x: unknown key");
    }

    #[test]
    fn plat_n41_registers_that_can_be_reset_are_refused_where_they_are_named() {
        for index in [16, 17, 18, 19, 20, 21, 22, 23] {
            refused(&format!("[tpm.pcrs.sha256]\n{index} = \"{}\"\n", "11".repeat(32)), "proves nothing");
            refused(&format!("[tpm]\nrequire_pcrs = [{index}]\n"), "tpm.require_pcrs[0]: proves nothing");
        }
        for index in [0, 15] {
            assert!(parse(&format!("[tpm.pcrs.sha256]\n{index} = \"{}\"\n", "11".repeat(32))).is_ok());
        }
    }

    fn identity(more: &str) -> Result<AppraisalPolicy, String> {
        let text = format!(
            "version = 1\nprofiles = [\"gcp-snp\"]\n[identity.tpm]\n{more}\n[snp]\nmeasurements = [\"{}\"]\n\
             signing_keys = [\"vcek\"]\n[snp.minimum_tcb.milan]\nbl = 4\ntee = 0\nsnp = 24\nucode = 219\n",
            "a".repeat(96)
        );
        AppraisalPolicy::parse(&text, "p").map_err(|e| format!("{}: {}", e.key(), e.problem()))
    }

    #[test]
    fn whose_vtpm_it_must_be_is_said_in_each_platforms_own_terms() {
        let ak = format!("000b{}", "ab".repeat(32));
        assert!(identity(&format!("ak_names = [\"{ak}\"]")).is_ok());
        assert!(identity(&format!("gce_instance_ids = [\"{}\"]", u64::MAX)).is_ok());
        assert!(identity("azure_vm_ids = [\"7DF7B373-B947-4AAA-96E5-C358F2A03D20\"]").is_ok());
        assert!(identity("ec2_instance_ids = [\"i-01cfb383223e42522\"]").is_ok());
        for (line, key) in [
            ("", "identity.tpm"),
            ("gce_instance_ids = [\"18446744073709551616\"]", "identity.tpm.gce_instance_ids[0]"),
            ("gce_instance_ids = [7]", "identity.tpm.gce_instance_ids[0]"),
            ("azure_vm_ids = [\"7DF7B373-B947-4AAA-96E5\"]", "identity.tpm.azure_vm_ids[0]"),
            ("ec2_instance_ids = [\"i-*\"]", "identity.tpm.ec2_instance_ids[0]"),
            ("ak_names = [\"000bab\"]", "identity.tpm.ak_names[0]"),
            ("x = 1", "identity.tpm.x"),
        ] {
            let error = identity(line).unwrap_err();
            assert!(error.starts_with(key), "{line}: {error}");
        }
    }
}
