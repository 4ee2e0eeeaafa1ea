//! What `cargo xtask demo` shows on each deployment: a guest that its policy accepts, and one thing of it that is changed.

use anyhow::Result;
use clap::ValueEnum;
use evident_tests::guest::{Guest, GuestBuilder};
use evident_tests::launch::Launched;
use evident_tests::policy::{EMULATED_COMMAND_LINE, Platform, PolicyText, emulated_boot};
use evident_tests::process::Program;

/// Where the guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Deployment {
    /// Azure's confidential VMs: report and vTPM of a paravisor
    Azure,
    /// Google Compute Engine: reports, and a vTPM of the host
    Gcp,
    /// EC2: reports under a VLEK, and NitroTPM's document
    Aws,
    /// Below COCONUT-SVSM, whose vTPM is in the launch digest
    Svsm,
    /// Measured direct boot under QEMU, as SNPGuard does it
    Snpguard,
    /// A guest of pages, without firmware
    Microcvm,
}

/// Bit 19 lets the host debug the guest; bit 17 must be one, and bit 16 allows SMT.
const DEBUG: &str = "policy = 0xB_0000\n";
const OTHER_MEASUREMENT: &str =
    "badbadbadbadbadbadbadbadbadbadbadbadbadbadbadbadbadbadbadbadbadbadbadbadbadbadbadbadbadbadbadbad";
const DIRECT_COMMAND_LINE: &str = "boot=verity verity_disk=/dev/vda verity_roothash=5e1f0c39d41e6c3f8e2f6a6d51c2a4d7b9e80f1273645546a7b8c9dadbecfd0e ro";
const SHELL: &str = "init=/bin/sh";

/// One demonstration.
pub(crate) struct Scenario {
    pub(crate) what: &'static str,
    /// `simulator.toml` of the guest that is accepted, and of the one that is not.
    pub(crate) simulated: String,
    pub(crate) tampered: String,
    pub(crate) tampering: &'static str,
    /// The findings that must stand in its refusal.
    pub(crate) reasons: [&'static str; 2],
    platform: Option<Platform>,
    launched: Option<Launched>,
    measurement: Option<String>,
}

impl Scenario {
    pub(crate) fn of(deployment: Option<Deployment>) -> Result<Scenario> {
        match deployment {
            None => Ok(Scenario {
                what: "plain SEV-SNP: the launch digest is all that is known of the guest",
                simulated: String::new(),
                tampered: format!("{DEBUG}measurement = \"{OTHER_MEASUREMENT}\"\n"),
                tampering: "another image",
                reasons: ["R_LD", "R_DEBUG"],
                platform: None,
                launched: None,
                measurement: None,
            }),
            Some(Deployment::Azure) => Ok(Scenario::on(
                Platform::Azure,
                "Azure: the paravisor asks for the report and puts it into its vTPM, with the vTPM's key",
            )),
            Some(Deployment::Gcp) => Ok(Scenario::on(
                Platform::Gcp,
                "Google Compute Engine: the guest asks for the report, Google's CA vouches for the host's vTPM",
            )),
            Some(Deployment::Aws) => Ok(Scenario::on(
                Platform::Aws,
                "EC2: a report signed by AWS's VLEK, and a document of the Nitro system about what was booted",
            )),
            Some(Deployment::Svsm) => Ok(Scenario::on(
                Platform::Svsm,
                "COCONUT-SVSM: a report of VMPL 0 over the vTPM's key, and a round trip that proves the AK beside it",
            )),
            Some(Deployment::Snpguard) => Scenario::launched(
                "SNPGuard: firmware, kernel, initrd and command line are in the launch digest, computed from the files",
                Launched::direct_boot(DIRECT_COMMAND_LINE)?,
                &Launched::direct_boot(&format!("{DIRECT_COMMAND_LINE} {SHELL}"))?,
                "a shell as its first process",
            ),
            Some(Deployment::Microcvm) => Scenario::launched(
                "microCVM: the guest is a list of pages, all of them in the launch digest",
                Launched::pages("simulated workload")?,
                &Launched::pages("simulated workload, changed")?,
                "another workload",
            ),
        }
    }

    fn on(platform: Platform, what: &'static str) -> Scenario {
        // Azure's policy allows more of the firmware's ABI.
        let debug = if platform == Platform::Azure { "policy = 0xB_001F\n" } else { DEBUG };
        Scenario {
            what,
            simulated: emulated_boot(EMULATED_COMMAND_LINE),
            tampered: format!("{debug}{}", emulated_boot(&format!("{EMULATED_COMMAND_LINE} {SHELL}"))),
            tampering: "a shell as its first process",
            reasons: ["L_COMMAND_LINE", "R_DEBUG"],
            platform: Some(platform),
            launched: None,
            measurement: None,
        }
    }

    fn launched(what: &'static str, files: Launched, other: &Launched, tampering: &'static str) -> Result<Scenario> {
        let launched = |digest: &str| format!("measurement = \"{digest}\"\n");
        let digest = files.digest()?;
        Ok(Scenario {
            what,
            simulated: launched(&digest),
            tampered: format!("{DEBUG}{}", launched(&other.digest()?)),
            tampering,
            reasons: ["R_LD", "R_DEBUG"],
            platform: None,
            launched: Some(files),
            measurement: Some(digest),
        })
    }

    /// The command that computes the digest which the policy names.
    pub(crate) fn measure(&self) -> Result<Option<Program>> {
        self.launched.as_ref().map(Launched::measure).transpose()
    }

    pub(crate) fn guest(&self, upstream: impl ToString, simulated: &str) -> GuestBuilder {
        let guest = Guest::in_front_of(upstream).simulated(simulated);
        match self.platform {
            Some(platform) => guest.args(&["--platform", platform.name()]),
            None => guest,
        }
    }

    /// The policy that accepts the guest which was not tampered with.
    pub(crate) fn policy(&self, guest: &Guest) -> PolicyText {
        let mut policy = guest.policy();
        if let Some(platform) = self.platform {
            policy = policy.on(platform);
        }
        match &self.measurement {
            Some(digest) => policy.measurement(digest),
            None => policy,
        }
    }
}
