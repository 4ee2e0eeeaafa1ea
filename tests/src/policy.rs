//! The policy file that accepts what `evident-proxy --simulate` proves, and deliberate departures from it.
//!
//! It names the simulator's root, so every verdict under it says SIMULATED, PROVES NOTHING.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// SHA-384 of "simulated guest": the measurement in the reports of a simulator that was told nothing else.
pub const SIMULATED_MEASUREMENT: &str =
    "5538e97d21fa4ecaeb9286d989ffc8627f389c8ee2e6a565acdd27418d75c2d6e26267ca057094c1431c0503f576561e";

/// The command line of an emulated guest whose policy is [`PolicyText::on`] a platform with a TPM.
pub const EMULATED_COMMAND_LINE: &str =
    "root=/dev/mapper/root ro roothash=5e1f0c39d41e6c3f8e2f6a6d51c2a4d7b9e80f1273645546a7b8c9dadbecfd0e";

/// The table of `simulator.toml` that boots it, by GRUB, with this command line; the policy of [`PolicyText::on`] accepts the one above.
pub fn emulated_boot(command_line: &str) -> String {
    format!("[boot]\nloader = \"grub\"\ncommand_line = \"{command_line}\"\n")
}

/// A platform whose vTPM says what was booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    Azure,
    Gcp,
    Aws,
    Svsm,
}

impl Platform {
    /// As `evident-proxy --platform` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Platform::Azure => "azure",
            Platform::Gcp => "gcp",
            Platform::Aws => "aws",
            Platform::Svsm => "svsm",
        }
    }

    /// Who signs its reports, as in the table `[snp]`.
    fn signing_keys(self) -> &'static str {
        match self {
            Platform::Aws => "signing_keys = [\"vlek\"]\ncsp = [\"CN=cc-eu-west-1.amazonaws.com\"]",
            Platform::Azure | Platform::Gcp | Platform::Svsm => "signing_keys = [\"vcek\"]",
        }
    }

    /// Every link that it has is asked for.
    fn table(self) -> &'static str {
        match self {
            Platform::Azure => "[azure]\nak_certificate = \"require\"\n",
            Platform::Gcp => "[gcp]\nprojects = [\"evident-simulated\"]\nzones = [\"us-central1-a\"]\n",
            Platform::Aws => "[aws]\nvtpm = \"document\"\nmax_document_age = \"10m\"\n",
            Platform::Svsm => "[svsm]\nak = \"proven\"\n",
        }
    }
}

/// What was booted: the emulated guest with [`EMULATED_COMMAND_LINE`], by GRUB.
fn booted() -> String {
    format!(
        "[event_log]\nkernel_command_line = \"/vmlinuz-6.12.0-simulated {EMULATED_COMMAND_LINE}\"\n\
         grub_commands = \"any\"\nfiles = \"any\"\n"
    )
}

/// The text of a policy file, in parts that a test may change.
#[derive(Clone, Debug)]
pub struct PolicyText {
    root: PathBuf,
    profile: String,
    signing_keys: String,
    names: Vec<String>,
    measurement: String,
    identity: String,
    extra: String,
}

impl PolicyText {
    /// Accepts the simulator of this directory, whose `root.pem` need not exist yet.
    pub fn for_simulator(dir: &Path) -> PolicyText {
        PolicyText {
            root: dir.join("root.pem"),
            profile: "snp".to_owned(),
            signing_keys: "signing_keys = [\"vcek\"]".to_owned(),
            names: Vec::new(),
            measurement: SIMULATED_MEASUREMENT.to_owned(),
            identity: "identity = \"any\"".to_owned(),
            extra: String::new(),
        }
    }

    /// Accepts a guest on this platform instead, where GRUB booted it with [`EMULATED_COMMAND_LINE`].
    pub fn on(mut self, platform: Platform) -> PolicyText {
        self.profile = format!("{}-snp", platform.name());
        self.signing_keys = platform.signing_keys().to_owned();
        self.extra = format!("{}\n{}", platform.table(), booted());
        self
    }

    /// What applications may ask for on the HTTP and SOCKS ports.
    pub fn names(mut self, names: &[&str]) -> PolicyText {
        self.names = names.iter().map(|name| (*name).to_owned()).collect();
        self
    }

    pub fn has_names(&self) -> bool {
        !self.names.is_empty()
    }

    /// Another launch measurement, in hex.
    pub fn measurement(mut self, hex: &str) -> PolicyText {
        self.measurement = hex.to_owned();
        self
    }

    /// The line or table of the identity rule, instead of `identity = "any"`.
    pub fn identity(mut self, toml: &str) -> PolicyText {
        self.identity = toml.to_owned();
        self
    }

    /// Further tables, as they stand.
    pub fn extra(mut self, toml: &str) -> PolicyText {
        self.extra = toml.to_owned();
        self
    }

    pub fn text(&self) -> String {
        let names = match self.names.as_slice() {
            [] => String::new(),
            names => format!("names = {names:?}\n"),
        };
        // An identity table must follow the plain keys.
        let (line, table) = if self.identity.starts_with('[') { ("", &*self.identity) } else { (&*self.identity, "") };
        format!(
            "version = 1\n\
             profiles = [\"{profile}\"]\n\
             {names}{line}\n\n\
             [snp]\n\
             measurements = [\"{measurement}\"]\n\
             {signing_keys}\n\
             smt = \"allow\"\n\
             minimum_tcb.milan = {{ bl = 4, tee = 0, snp = 24, ucode = 219 }}\n\n\
             [roots]\n\
             simulator = {root:?}\n\n\
             {table}\n{extra}\n",
            profile = self.profile,
            signing_keys = self.signing_keys,
            measurement = self.measurement,
            root = self.root,
            extra = self.extra,
        )
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        std::fs::write(path, self.text()).with_context(|| format!("writing {}", path.display()))
    }
}
