//! The policy file that accepts what `evident-proxy --simulate` proves, and deliberate departures from it.
//!
//! It names the simulator's root, so every verdict under it says SIMULATED, PROVES NOTHING.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// SHA-384 of "simulated guest": the measurement in the reports of a simulator that was told nothing else.
pub const SIMULATED_MEASUREMENT: &str =
    "5538e97d21fa4ecaeb9286d989ffc8627f389c8ee2e6a565acdd27418d75c2d6e26267ca057094c1431c0503f576561e";

/// The text of a policy file, in parts that a test may change.
#[derive(Clone, Debug)]
pub struct PolicyText {
    root: PathBuf,
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
            names: Vec::new(),
            measurement: SIMULATED_MEASUREMENT.to_owned(),
            identity: "identity = \"any\"".to_owned(),
            extra: String::new(),
        }
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
             profiles = [\"snp\"]\n\
             {names}{line}\n\n\
             [snp]\n\
             measurements = [\"{measurement}\"]\n\
             signing_keys = [\"vcek\"]\n\
             smt = \"allow\"\n\
             minimum_tcb.milan = {{ bl = 4, tee = 0, snp = 24, ucode = 219 }}\n\n\
             [roots]\n\
             simulator = {root:?}\n\n\
             {table}\n{extra}\n",
            measurement = self.measurement,
            root = self.root,
            extra = self.extra,
        )
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        std::fs::write(path, self.text()).with_context(|| format!("writing {}", path.display()))
    }
}
