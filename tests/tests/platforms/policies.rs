//! What a user of each deployment accepts: the measurement, the links that the platform has, and what was booted.

use std::path::Path;

use evident_tests::policy::SIMULATED_MEASUREMENT;
use simulator::boot::{Guest as Booted, Loader, pe};
use simulator::tpm::objects::Bank;

use crate::guest::Deployment;

/// The policy under which the emulated guest of this deployment is accepted. Every link that the platform has is required.
pub(crate) fn accepting(deployment: Deployment) -> String {
    let measurements = format!("measurements = [\"{SIMULATED_MEASUREMENT}\"]\n");
    format!("{}{}", head(deployment, "identity = \"any\"\n", &measurements), booted(deployment))
}

/// A policy as far as the report and whoever vouches for the TPM: with this identity rule, and these launch digests.
pub(crate) fn head(deployment: Deployment, identity: &str, measurements: &str) -> String {
    let (profile, keys, platform) = match deployment {
        Deployment::Azure => ("azure-snp", VCEK, "[azure]\nak_certificate = \"require\"\n"),
        Deployment::Gcp => {
            ("gcp-snp", VCEK, "[gcp]\nprojects = [\"evident-simulated\"]\nzones = [\"us-central1-a\"]\n")
        }
        Deployment::Aws => ("aws-snp", VLEK, "[aws]\nvtpm = \"document\"\nmax_document_age = \"10m\"\n"),
        Deployment::Svsm => ("svsm-snp", VCEK, if proves_aks() { PROVEN } else { UNPROVEN }),
        Deployment::Direct => ("snp", VCEK, ""),
    };
    format!(
        "version = 1\nprofiles = [\"{profile}\"]\n{identity}\n\
         [snp]\n{measurements}smt = \"allow\"\n{keys}\
         minimum_tcb.milan = {{ bl = 4, tee = 0, snp = 24, ucode = 219 }}\n\n\
         {platform}\n"
    )
}

/// What was booted: this command line by GRUB, or all of a unified kernel image.
fn booted(deployment: Deployment) -> String {
    let bank = match deployment {
        Deployment::Azure | Deployment::Gcp | Deployment::Svsm => Bank::Sha256,
        Deployment::Aws => Bank::Sha384,
        Deployment::Direct => return String::new(),
    };
    let booted = Booted::new(deployment.firmware());
    let command_line = &booted.command_line;
    if booted.loader == Loader::Grub {
        return format!(
            "[event_log]\nkernel_command_line = \"/vmlinuz-6.12.0-simulated {command_line}\"\n\
             grub_commands = \"any\"\nfiles = \"any\"\n"
        );
    }
    let digest = |text: &str| hex::encode(bank.hash(text.as_bytes()));
    let image = hex::encode(bank.hash(&pe::hashed(&booted.unified_image())));
    let others = booted.sections().into_iter().filter(|(name, _)| matches!(*name, ".osrel" | ".uname"));
    let others: String = others.map(|(name, text)| format!("\"{name}\" = \"{}\"\n", digest(&text))).collect();
    format!(
        "[event_log]\nverity_key = \"roothash\"\nkernel_command_line = \"{command_line}\"\nkernel = \"{}\"\ninitrd = \"{}\"\n\
         boot_programs = \"{image}\"\n[event_log.uki]\n{others}",
        digest(&booted.kernel),
        digest(&booted.initrd),
    )
}

/// The client of this build can ask for the proof of an SVSM's AK; with ring it cannot, and says that the key is unproven.
pub(crate) fn proves_aks() -> bool {
    ratls::crypto::BACKEND != "ring"
}

pub(crate) const PROVEN: &str = "[svsm]\nak = \"proven\"\n";
const UNPROVEN: &str = "[svsm]\nak = \"accept a key that nobody vouches for\"\n";
const VCEK: &str = "signing_keys = [\"vcek\"]\n";
const VLEK: &str = "signing_keys = [\"vlek\"]\ncsp = [\"CN=cc-eu-west-1.amazonaws.com\"]\n";

/// The same, and these registers must hold these values.
pub(crate) fn with_registers(policy: &str, bank: &str, registers: &[(u32, String)]) -> String {
    let lines: Vec<String> = registers.iter().map(|(pcr, value)| format!("\"{pcr}\" = \"{value}\"\n")).collect();
    format!("{policy}\n[tpm.pcrs.{bank}]\n{}", lines.concat())
}

/// The same, and it accepts what ends in these roots.
pub(crate) fn with_root(policy: &str, roots: &Path) -> String {
    format!("{policy}\n[roots]\nsimulator = {roots:?}\n")
}
