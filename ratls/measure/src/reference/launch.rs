//! What a guest's launch digest must be, recomputed from files in hand; and what an equal one says of each component.
//!
//! The digests of all machines that the reference allows are computed once, when the policy is loaded. Parts that went in by a
//! digest that somebody named are covered too, and no proof speaks for them.

use super::proof::{Artefact, BinaryProof, Expected, Part};
use crate::launch::{
    Coverage, Covered, Difference, Enforcement, Ingredient, KernelHashes, Known, LaunchError, LaunchLink, Machine,
    Machines, NotCovered, OvmfLaunch, PagePart, PagesLaunch,
};
use formats::digest::Sha256Digest;
use formats::evidence::snp::Measurement;

/// Where the userspace is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Userspace {
    /// Nowhere that this reference speaks of.
    Elsewhere,
    /// In the initrd itself, unless words of the command line make it start something else.
    Initrd { doubtful_words: Vec<String> },
    /// In an image whose dm-verity root hash stands in the command line; the initrd mounts no other.
    Verity { root: Sha256Digest, doubtful_words: Vec<String> },
    /// On an encrypted disk, which the initrd opens with the owner's key and mounts as it is.
    Sealed,
}

/// How the policy calls the files of a launch. The hashes are those of the launch itself: a file counts as in hand only where
/// its bytes went into the digest.
#[derive(Clone, Debug)]
pub struct LaunchNames {
    pub firmware: String,
    pub kernel: String,
    /// `None` where there is no initrd.
    pub initrd: Option<String>,
    pub cmdline: String,
}

/// A reference for launch digests.
#[derive(Clone, Debug)]
pub struct LaunchReference {
    expected: Vec<(Expected, Option<Machine>)>,
    coverage: Coverage,
    has_initrd: bool,
    cmdline: Option<String>,
    userspace: Userspace,
    search: Option<(OvmfLaunch, Machines)>,
}

/// A launch digest that equals one of a reference.
#[derive(Clone, Debug)]
pub struct LaunchFound<'r> {
    reference: &'r LaunchReference,
    proof: BinaryProof,
    machine: Option<Machine>,
}

/// How a component stands under a launch digest that matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub link: LaunchLink,
    /// False where a part of the component is not covered.
    pub full: bool,
    /// Every part of it was in hand.
    pub in_hand: bool,
    /// The parts that it is made of, for a proof of source.
    pub parts: Vec<Part>,
}

impl LaunchReference {
    /// An OVMF guest on every machine allowed.
    pub fn ovmf(
        launch: OvmfLaunch,
        machines: Machines,
        enforcement: Enforcement,
        names: &LaunchNames,
        userspace: Userspace,
    ) -> Result<LaunchReference, LaunchError> {
        let in_hand = artefacts(&launch, names);
        let expect = |machine: Machine| -> Result<_, LaunchError> {
            let digest = launch.digest(&machine)?;
            let recipe = match launch.kernel() {
                Some(_) => format!("{machine}, kernel hashes on"),
                None => format!("{machine}, no kernel measured"),
            };
            Ok((Expected::recomputed(digest.as_bytes(), recipe, in_hand.clone()), Some(machine)))
        };
        Ok(LaunchReference {
            expected: machines.each().map(expect).collect::<Result<_, _>>()?,
            coverage: launch.coverage(enforcement),
            has_initrd: names.initrd.is_some(),
            cmdline: in_hand.iter().find(|a| a.part == Part::CommandLine).map(|a| a.name.clone()),
            userspace,
            search: Some((launch, machines)),
        })
    }

    /// A guest given page by page, with the files of its list.
    pub fn pages(launch: &PagesLaunch, userspace: Userspace) -> LaunchReference {
        let recipe = format!("page by page, {} vCPUs", launch.vcpus());
        let in_hand = launch.files().iter().map(|file| Artefact {
            part: match file.part {
                PagePart::Firmware => Part::Firmware,
                PagePart::Kernel => Part::Kernel,
                PagePart::Initrd => Part::Initrd,
                PagePart::Cmdline => Part::CommandLine,
            },
            name: file.name.clone(),
            sha256: file.sha256,
        });
        let expected = Expected::recomputed(launch.digest().as_bytes(), recipe, in_hand.collect());
        LaunchReference {
            expected: vec![(expected, None)],
            coverage: *launch.coverage(),
            has_initrd: launch.coverage().initrd.is_ok(),
            cmdline: None,
            userspace,
            search: None,
        }
    }

    /// The digests that would be accepted.
    pub fn digests(&self) -> impl Iterator<Item = Measurement> {
        let digest = |value: &[u8]| value.first_chunk().map(|bytes| Measurement::from_bytes(*bytes));
        self.expected.iter().filter_map(move |(expected, _)| digest(expected.value()))
    }

    pub fn coverage(&self) -> &Coverage {
        &self.coverage
    }

    pub fn compare(&self, measured: &Measurement) -> Option<LaunchFound<'_>> {
        let equal = |(expected, machine): &(Expected, Option<Machine>)| {
            Some(LaunchFound { reference: self, proof: expected.equals(measured.as_bytes())?, machine: *machine })
        };
        self.expected.iter().find_map(equal)
    }

    /// What would have to differ for `measured` to match; see [`OvmfLaunch::explain`] for what is tried, and for its cost.
    pub fn explain(&self, measured: &Measurement) -> Option<Vec<Difference>> {
        let (launch, machines) = self.search.as_ref()?;
        launch.explain(machines, measured)
    }

    /// The command line with which `measured` would match, where it is one slip away from the reference's; see
    /// [`OvmfLaunch::explain_line`].
    pub fn explain_line(&self, measured: &Measurement) -> Option<Difference> {
        let (launch, machines) = self.search.as_ref()?;
        launch.explain_line(machines, self.cmdline.as_deref()?, measured)
    }
}

impl<'r> LaunchFound<'r> {
    pub fn proof(&self) -> &BinaryProof {
        &self.proof
    }
    /// The machine that matched, where the reference allows several.
    pub fn machine(&self) -> Option<&Machine> {
        self.machine.as_ref()
    }
    /// The command line, where the reference has it as text and the digest covers it.
    pub fn cmdline(&self) -> Option<&'r str> {
        self.reference.coverage.cmdline.ok()?;
        self.reference.cmdline.as_deref()
    }

    pub fn firmware(&self) -> Result<Standing, NotCovered> {
        self.reference.coverage.firmware.map(|covered| self.standing(covered, vec![Part::Firmware], true))
    }

    /// Initrd and command line: what stands between firmware and kernel in a direct boot.
    pub fn boot(&self) -> Result<Standing, NotCovered> {
        let Coverage { initrd, cmdline, .. } = self.reference.coverage;
        let covered = cmdline.or(initrd)?;
        let mut parts = vec![Part::CommandLine];
        if self.reference.has_initrd {
            parts.push(Part::Initrd);
        }
        Ok(self.standing(covered, parts, cmdline.is_ok() && initrd.is_ok()))
    }

    /// A kernel whose command line is unknown may do anything.
    pub fn kernel(&self) -> Result<Standing, NotCovered> {
        let Coverage { kernel, cmdline, .. } = self.reference.coverage;
        kernel.map(|covered| self.standing(covered, vec![Part::Kernel], cmdline.is_ok()))
    }

    /// As far as the launch digest itself carries it; an image under dm-verity has a proof of its own.
    pub fn userspace(&self) -> Result<Standing, NotCovered> {
        let Coverage { initrd, cmdline, .. } = self.reference.coverage;
        match &self.reference.userspace {
            Userspace::Elsewhere => Err(NotCovered::NotInRecipe),
            Userspace::Sealed => Err(NotCovered::OwnerSealed),
            Userspace::Initrd { doubtful_words } => {
                // A command line that the host chooses could start anything (`rdinit=`).
                let covered = cmdline.and(initrd)?;
                Ok(self.standing(covered, vec![Part::Initrd], doubtful_words.is_empty()))
            }
            Userspace::Verity { doubtful_words, .. } => {
                let covered = cmdline.and(initrd)?;
                let enforced = Covered { link: LaunchLink::VerifiedByMeasured, known: covered.known };
                let full = doubtful_words.is_empty();
                Ok(Standing { in_hand: false, ..self.standing(enforced, vec![Part::Image], full) })
            }
        }
    }

    /// The root hash that the guest's userspace is verified against, if it is.
    pub fn verity_root(&self) -> Option<&'r Sha256Digest> {
        match &self.reference.userspace {
            Userspace::Verity { root, .. } => Some(root),
            Userspace::Elsewhere | Userspace::Initrd { .. } | Userspace::Sealed => None,
        }
    }

    /// Words of the command line that may change what runs in the userspace.
    pub fn doubtful_words(&self) -> &'r [String] {
        match &self.reference.userspace {
            Userspace::Verity { doubtful_words, .. } | Userspace::Initrd { doubtful_words } => doubtful_words,
            Userspace::Elsewhere | Userspace::Sealed => &[],
        }
    }

    fn standing(&self, covered: Covered, parts: Vec<Part>, full: bool) -> Standing {
        let in_hand = covered.known == Known::Bytes && parts.iter().all(|part| self.proof.covers(*part));
        Standing { link: covered.link, full, in_hand, parts }
    }
}

/// What was in hand, by the launch's own word.
fn artefacts(launch: &OvmfLaunch, names: &LaunchNames) -> Vec<Artefact> {
    let artefact = |part, name: &str, sha256| Artefact { part, name: name.to_owned(), sha256 };
    let mut all = Vec::new();
    all.extend(launch.firmware().file().map(|file| artefact(Part::Firmware, &names.firmware, file.sha256)));
    let Some(KernelHashes { kernel, initrd, cmdline }) = launch.kernel() else { return all };
    if kernel.is_held() {
        all.push(artefact(Part::Kernel, &names.kernel, kernel.sha256()));
    }
    if let (Some(name), true) = (&names.initrd, initrd.is_held()) {
        all.push(artefact(Part::Initrd, name, initrd.sha256()));
    }
    if *cmdline == Ingredient::of_cmdline(&names.cmdline) {
        all.push(artefact(Part::CommandLine, &names.cmdline, cmdline.sha256()));
    }
    all
}

/// The value of `key=…` in a command line. Two of them are refused: guests disagree on which one counts.
pub fn cmdline_value<'c>(cmdline: &'c str, key: &str) -> Result<&'c str, CmdlineError> {
    let mut values = cmdline.split_ascii_whitespace().filter_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    let first = values.next().ok_or_else(|| CmdlineError::Absent(key.to_owned()))?;
    if values.next().is_some() { Err(CmdlineError::Twice(key.to_owned())) } else { Ok(first) }
}

/// A command line that does not say one thing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CmdlineError {
    #[error("the command line has no {0}=")]
    Absent(String),
    #[error("the command line has {0}= twice, and guests disagree on which one counts")]
    Twice(String),
}
