//! What a policy file asks for under `[[reference]]`, before any file of it was read.

use super::super::error::{PolicyError, PolicyProblem};
use super::super::verity::VerityRules;
use super::DigestOrigin;
use formats::digest::Sha256Digest;
use formats::evidence::snp::Measurement;
use measure::launch::{Enforcement, Firmware, Machines};
use measure::reference::{Part, TrustedKey, VerityFormat};

/// Where a reference stands in the file, for errors that come when it is loaded.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) file: String,
    pub(super) line: usize,
    pub(super) key: String,
}

impl Place {
    pub(super) fn error(&self, problem: impl ToString) -> PolicyError {
        let Place { file, line, key } = self.clone();
        PolicyError { file, line, key, problem: PolicyProblem::Reference(problem.to_string()) }
    }
}

#[derive(Debug, PartialEq)]
pub(super) enum Wanted {
    Launch(Box<LaunchWanted>),
    Pages { list: String, userspace: UserspaceWanted },
    Igvm { file: String },
    Digests { measurements: Vec<Measurement>, origin: DigestOrigin },
    Image { image: String, superblock: Option<String>, format: VerityFormat },
    Rebuild { statements: Vec<String>, rebuilders: Vec<(String, TrustedKey)>, at_least: usize },
    OwnBuild { command: String, source: String, sha256: Vec<Sha256Digest> },
    Boot(Vec<(Part, String)>),
}

#[derive(Debug, PartialEq)]
pub(super) struct LaunchWanted {
    pub(super) firmware: FirmwareWanted,
    pub(super) kernel: Option<KernelWanted>,
    pub(super) machines: Machines,
    pub(super) enforcement: Enforcement,
    pub(super) userspace: UserspaceWanted,
}

#[derive(Debug, PartialEq)]
pub(super) enum FirmwareWanted {
    File(String),
    Digest(Firmware),
}

#[derive(Debug, PartialEq)]
pub(super) struct KernelWanted {
    pub(super) kernel: Item,
    pub(super) initrd: Option<Item>,
    pub(super) cmdline: String,
}

#[derive(Debug, PartialEq)]
pub(super) enum Item {
    File(String),
    Digest(Sha256Digest),
}

#[derive(Debug, PartialEq)]
pub(super) enum UserspaceWanted {
    Elsewhere,
    Initrd { neutral_words: Vec<String> },
    Sealed,
    Verity(VerityRules),
}

impl Wanted {
    /// The files that it names, as it names them.
    pub(super) fn files(&self) -> Vec<&str> {
        match self {
            Wanted::Launch(launch) => launch.files(),
            Wanted::Pages { list: name, .. } | Wanted::Igvm { file: name } => vec![name],
            Wanted::Image { image, superblock, .. } => {
                [Some(image), superblock.as_ref()].into_iter().flatten().map(String::as_str).collect()
            }
            Wanted::Rebuild { statements, .. } => statements.iter().map(String::as_str).collect(),
            Wanted::Boot(files) => files.iter().map(|(_, name)| name.as_str()).collect(),
            Wanted::Digests { .. } | Wanted::OwnBuild { .. } => Vec::new(),
        }
    }
}

impl LaunchWanted {
    fn files(&self) -> Vec<&str> {
        let firmware = match &self.firmware {
            FirmwareWanted::File(name) => Some(name.as_str()),
            FirmwareWanted::Digest(_) => None,
        };
        let items = self.kernel.iter().flat_map(|kernel| [Some(&kernel.kernel), kernel.initrd.as_ref()]).flatten();
        let named = items.filter_map(|item| match item {
            Item::File(name) => Some(name.as_str()),
            Item::Digest(_) => None,
        });
        firmware.into_iter().chain(named).collect()
    }
}
