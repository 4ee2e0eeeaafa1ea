//! A policy in words, for `policy check`: what it accepts, and what in it deserves a second look.

use std::fmt;

use super::event_log::Listed;
use super::{
    AkRule, AppraisalPolicy, CrlRule, IdentityRule, IdentityRules, MigrateMa, Need, NitroTpm, Permission,
    ProfilePolicy, RequiredRoot, StaleReport, View,
};
use formats::binding::{Profile, UpstreamScope};
use formats::tcb::Product;
use formats::text::Untrusted;

impl AppraisalPolicy {
    /// What in this policy accepts more than a careful author may want. Each is allowed; none should go unread.
    pub fn cautions(&self) -> Vec<String> {
        let mut cautions = Vec::new();
        if self.anchors_needed().is_some() {
            cautions.push("[roots] simulator: accepts evidence that is SIMULATED and PROVES NOTHING".to_owned());
        }
        for policy in self.accepted() {
            let found = policy.cautions();
            match self.only() {
                Some(_) => cautions.extend(found),
                None => cautions.extend(found.into_iter().map(|caution| format!("{}: {caution}", policy.profile))),
            }
        }
        cautions
    }

    /// The cautions about values that an example left to its reader: such a policy accepts no guest that exists.
    pub fn placeholder_cautions(&self) -> Vec<String> {
        self.accepted().iter().filter_map(ProfilePolicy::placeholder_caution).collect()
    }
}

impl ProfilePolicy {
    /// A caution about values that an example left to its reader.
    fn placeholder_caution(&self) -> Option<String> {
        let keys = self.placeholders().join(", ");
        (!keys.is_empty())
            .then(|| format!("{keys}: one digit over and over, as in the examples; put your own value there"))
    }

    fn cautions(&self) -> Vec<String> {
        let snp = &self.snp;
        let mut cautions: Vec<String> = self.placeholder_caution().into_iter().collect();
        let mut note = |applies: bool, text: &str| {
            if applies {
                cautions.push(text.to_owned());
            }
        };
        note(
            matches!(self.identity, IdentityRule::Any),
            "identity = \"any\": anybody's guest with such a measurement passes",
        );
        note(self.guest.upstream_scope == UpstreamScope::OutsideGuest, "upstream_scope: plaintext may leave the guest");
        note(self.guest.config.is_empty(), "no [guest] config: the measured image may be configured in any way");
        note(
            self.crl == CrlRule::IfPresent,
            "crl = \"if-present\": a revoked key is noticed only where a list comes along",
        );
        note(
            self.levels.view == View::Relaxed,
            "[levels] view = \"relaxed\": what the cloud's vTPM says counts whatever its firmware is",
        );
        note(
            snp.signer_suffices,
            "measurements = \"whatever launch_identity signed\": no launch digest is compared, only who signed it",
        );
        note(
            snp.measurements.is_empty()
                && self.references.accepted_launches().is_empty()
                && self.clouds.gcp.as_ref().and_then(|r| r.endorsement.as_ref()).is_some_and(|r| r.min_svn == 0),
            "endorsement_root without min_svn: any firmware that Google ever endorsed is accepted, with its faults",
        );
        note(snp.vmpl != 0, "vmpl: accepts a report of less privileged code");
        note(
            snp.migrate_ma == MigrateMa::AllowUnused,
            "migrate_ma: a migration agent may be allowed, while none is associated",
        );
        note(snp.smt == Permission::Allow, "smt = \"allow\": a sibling thread may be the host's");
        let clouds = &self.clouds;
        note(
            clouds.azure.as_ref().is_some_and(|r| r.stale_report == StaleReport::AcceptOfUnknownAge),
            "stale_report: a report of an old paravisor may be years old; only the TPM's quote is of now",
        );
        note(
            self.levels.view == View::Relaxed
                && clouds.azure.as_ref().is_some_and(|r| r.stale_report == StaleReport::AcceptOfUnknownAge),
            "view and stale_report: all that counts is then the cloud's word; the hardware's may be of another day and machine",
        );
        note(
            clouds.azure.as_ref().is_some_and(|r| r.console == Permission::Allow),
            "console = \"allow\": the host has the other end of the serial console",
        );
        note(
            clouds.azure.as_ref().is_some_and(|r| r.insecure_boot == Permission::Allow),
            "insecure_boot = \"allow\": the VM may boot what nobody signed",
        );
        note(
            clouds.gcp.as_ref().is_some_and(|r| !r.snp_firmware_in_pcr0),
            "pcr0 = \"not compared\": the firmware need not have believed that it runs under SEV-SNP",
        );
        note(
            clouds.aws.as_ref().is_some_and(|r| r.vtpm == NitroTpm::None),
            "vtpm = \"none\": nothing says which system runs behind AWS's firmware",
        );
        note(
            clouds.svsm.as_ref().is_some_and(|r| r.ak == AkRule::AcceptUnproven),
            "ak: the quote may be by a key outside the SVSM's TPM, and then says whatever its maker wants",
        );
        note(self.tpm.quote == Need::IfPresent, "quote = \"if-present\": a guest may show no registers at all");
        note(
            (clouds.gcp.is_some() || clouds.aws.is_some()) && self.tpm.pcrs.is_empty(),
            "no [tpm.pcrs]: on Google's and AWS's machines the report says nothing of the system that booted",
        );
        note(snp.cxl == Permission::Allow, "cxl = \"allow\": guest memory may be on CXL devices");
        if let Some(rules) = &self.event_log {
            note(!rules.secure_boot_required, "secure_boot: boot programs need nobody's signature");
            note(rules.grub_commands == Listed::Any, "grub_commands = \"any\": grub may have run anything");
            note(rules.files == Listed::Any, "files = \"any\": grub may have read anything");
            note(!rules.ignored.is_empty(), "ignore_registers: what those registers hold is not looked at");
        }
        cautions
    }

    /// Keys with a value that stands in an example and is nobody's. Zeros are: a register that nothing was measured into.
    fn placeholders(&self) -> Vec<&'static str> {
        let mut keys = Vec::new();
        let mut look = |key, mut values: Box<dyn Iterator<Item = String> + '_>| {
            if values.any(|value| is_one_digit(&value)) {
                keys.push(key);
            }
        };
        if let IdentityRule::All(IdentityRules { chip_ids, report_ids, launch_identity, tpm }) = &self.identity {
            look("chip_ids", texts(chip_ids.iter().flatten()));
            look("report_ids", texts(report_ids.iter().flatten()));
            look("id_key_digest", texts(launch_identity.iter().map(|launch| &launch.id_key_digest)));
            if let Some(tpm) = tpm {
                look("azure_vm_ids", texts(tpm.azure_vm_ids.iter().flatten()));
                look("gce_instance_ids", texts(tpm.gce_instance_ids.iter().flatten()));
                look("ec2_instance_ids", texts(tpm.ec2_instance_ids.iter().flatten()));
            }
        }
        look(
            "measurements",
            texts(self.snp.measurements.iter().chain(self.references.listed().map(|(digest, _)| digest))),
        );
        look("host_data", texts(self.snp.host_data.iter()));
        look("[tpm.pcrs]", texts(self.tpm.pcrs.iter().flat_map(|rule| &rule.accepted)));
        look("[guest] config", texts(self.guest.config.iter()));
        keys
    }

    /// What a vTPM must show, and who must vouch for it.
    fn write_vtpm(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.profile == Profile::Snp {
            return Ok(());
        }
        for rule in &self.tpm.pcrs {
            listed(
                f,
                &format!("PCR {}", rule.index),
                rule.accepted.iter().map(|value| format!("{} {value}", rule.bank)),
            )?;
        }
        if !self.tpm.require_pcrs.is_empty() {
            let registers: Vec<String> = self.tpm.require_pcrs.iter().map(u8::to_string).collect();
            writeln!(f, "  registers     {} must be shown, whatever they hold", registers.join(", "))?;
        }
        let clouds = &self.clouds;
        if clouds.required_roots.contains(&RequiredRoot::Csp) {
            writeln!(f, "  vouched for   by AMD and by the cloud (require_roots)")?;
        }
        if clouds.azure.as_ref().is_some_and(|rules| rules.ak_certificate == Need::Require) {
            writeln!(f, "  vTPM's key    with Microsoft's certificate (ak_certificate)")?;
        }
        if let Some(rules) = &clouds.gcp {
            listed(f, "project", rules.projects.iter())?;
            listed(f, "zone", rules.zones.iter())?;
            if let Some(endorsement) = &rules.endorsement {
                writeln!(f, "  firmware      endorsed by Google, security version {} or above", endorsement.min_svn)?;
            }
        }
        if let Some(age) = clouds.aws.as_ref().and_then(|rules| rules.max_document_age) {
            writeln!(f, "  document      at most {} s old", age.as_secs())?;
        }
        if clouds.svsm.as_ref().is_some_and(|rules| rules.ak == AkRule::Proven) {
            writeln!(f, "  vTPM's key    proven to live beside the EK that the SVSM names")?;
        }
        Ok(())
    }
}

fn texts<'v, T: ToString + 'v>(values: impl Iterator<Item = T> + 'v) -> Box<dyn Iterator<Item = String> + 'v> {
    Box::new(values.map(|value| value.to_string()))
}

/// Of hex digits, or of an id with its prefix and hyphens.
fn is_one_digit(value: &str) -> bool {
    let digits = value.strip_prefix("i-").unwrap_or(value);
    let mut digits = digits.chars().filter(|c| *c != '-');
    digits.next().is_some_and(|first| first != '0' && digits.all(|digit| digit == first))
}

/// Lines of a list that are shown; who has more knows where they come from.
const SHOWN: usize = 8;

fn listed(f: &mut fmt::Formatter<'_>, name: &str, values: impl Iterator<Item = impl fmt::Display>) -> fmt::Result {
    let mut more = 0;
    for (position, value) in values.enumerate() {
        match position {
            0 => writeln!(f, "  {name:<13} {value}")?,
            1..SHOWN => writeln!(f, "  {:<13} or {value}", "")?,
            _ => more += 1,
        }
    }
    if more > 0 {
        writeln!(f, "  {:<13} or one of {more} more", "")?;
    }
    Ok(())
}

impl fmt::Display for AppraisalPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.names().is_empty() {
            writeln!(f, "  names         {}", self.names().join(", "))?;
        }
        for policy in self.accepted() {
            write!(f, "{policy}")?;
        }
        writeln!(f, "  good for      {} s", self.max_age().as_secs())?;
        writeln!(f, "  sha256        {}", self.digest())
    }
}

impl fmt::Display for ProfilePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<_> = self.snp.signing_keys.iter().map(|k| format!("{k:?}").to_uppercase()).collect();
        writeln!(f, "  profile       {}", self.profile)?;
        writeln!(f, "  identity      {}", self.identity)?;
        if self.snp.signer_suffices {
            writeln!(f, "  measurement   whatever launch_identity signed")?;
        }
        listed(f, "measurement", self.snp.measurements.iter())?;
        listed(f, "measurement", self.references.listed().map(|(digest, origin)| format!("{digest} ({origin})")))?;
        write!(f, "{}", self.references)?;
        writeln!(f, "  signed by     {}", keys.join(" or "))?;
        for csp in &self.snp.csp {
            writeln!(f, "  cloud         {}", Untrusted(csp))?;
        }
        for product in Product::ALL {
            if let Some(floor) = self.snp.minimum_tcb.floor(product) {
                writeln!(f, "  {:<13} {floor}, each or above", product.name())?;
            }
        }
        self.write_vtpm(f)?;
        if let Some(rules) = &self.event_log {
            for pattern in &rules.command_lines {
                writeln!(f, "  command line  {}", Untrusted(&pattern.to_string()))?;
            }
            if !rules.command_line_digests.is_empty() {
                writeln!(f, "  command line  {} by digest", rules.command_line_digests.len())?;
            }
            if !rules.kernel.is_empty() {
                writeln!(f, "  kernel        {} by digest", rules.kernel.len())?;
            }
        }
        for rule in &self.levels.wanted {
            writeln!(f, "  {:<13} {rule}, or above", rule.component.as_str())?;
        }
        Ok(())
    }
}

impl fmt::Display for IdentityRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let IdentityRule::All(rules) = self else { return f.write_str("any") };
        let mut parts = Vec::new();
        if let Some(ids) = &rules.chip_ids {
            parts.push(format!("one of {} chips", ids.len()));
        }
        if let Some(ids) = &rules.report_ids {
            parts.push(format!("one of {} guest instances", ids.len()));
        }
        if let Some(launch) = &rules.launch_identity {
            parts.push(format!("launched by key {}", launch.id_key_digest));
        }
        if rules.tpm.is_some() {
            parts.push("one of the vTPMs listed".to_owned());
        }
        f.write_str(&parts.join(" and "))
    }
}
