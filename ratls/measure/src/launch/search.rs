//! Which machine gives the digest that a report carries, among those that somebody allows; and if none, what would have to differ.
//!
//! The hypervisor chooses the number of vCPUs, their model and features, and all are in the digest. So a reference is a guest
//! and a small set of machines, and the one that matched is a claim to be shown. The second half
//! answers "why not": it only ever explains a refusal and never accepts.

use std::fmt;

use super::cover::{Coverage, Enforcement};
use super::hashes::{Ingredient, KernelHashes};
use super::machine::{GceHost, Machine, VcpuCount, Vmm};
use super::recipe::OvmfLaunch;
use super::vcpu::{GuestFeatures, VcpuSignature};
use formats::evidence::snp::Measurement;

/// Machines of one reference: each is a digest that would be accepted.
pub const MAX_MACHINES: usize = 64;

/// vCPU counts that an explanation tries. The cost is one hash each.
const HINT_VCPUS: usize = 512;

/// The machines that a reference allows: every combination of the four lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machines {
    vmms: Vec<Vmm>,
    vcpus: Vec<VcpuCount>,
    models: Vec<VcpuSignature>,
    features: Vec<GuestFeatures>,
}

/// Lists that name no machine, or too many.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MachinesError {
    #[error("no {0} is named")]
    Empty(&'static str),
    #[error(
        "{0} combinations of hypervisor, vCPUs, model and features; at most {MAX_MACHINES}, so that a match still says something"
    )]
    TooMany(usize),
}

impl Machines {
    pub fn new(
        vmms: Vec<Vmm>,
        vcpus: Vec<VcpuCount>,
        models: Vec<VcpuSignature>,
        features: Vec<GuestFeatures>,
    ) -> Result<Machines, MachinesError> {
        let lens = [
            ("hypervisor", vmms.len()),
            ("number of vCPUs", vcpus.len()),
            ("vCPU type", models.len()),
            ("set of guest features", features.len()),
        ];
        if let Some((name, _)) = lens.iter().find(|(_, len)| *len == 0) {
            return Err(MachinesError::Empty(name));
        }
        let count = lens.iter().fold(1_usize, |product, (_, len)| product.saturating_mul(*len));
        if count > MAX_MACHINES {
            return Err(MachinesError::TooMany(count));
        }
        Ok(Machines { vmms, vcpus, models, features })
    }

    /// Exactly this one.
    pub fn one(machine: Machine) -> Machines {
        let Machine { vmm, vcpus, model, features } = machine;
        Machines { vmms: vec![vmm], vcpus: vec![vcpus], models: vec![model], features: vec![features] }
    }

    /// Every combination.
    pub fn each(&self) -> impl Iterator<Item = Machine> + '_ {
        let vcpus = move |vmm: Vmm| self.vcpus.iter().map(move |vcpus| (vmm, *vcpus));
        let places = self.vmms.iter().flat_map(move |vmm| vcpus(*vmm));
        places.flat_map(move |(vmm, vcpus)| {
            pairs(&self.models, &self.features).map(move |(model, features)| Machine { vmm, vcpus, model, features })
        })
    }
}

/// A launch that gives exactly the digest asked for. Only [`OvmfLaunch::find`] makes one: it has computed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchMatch {
    digest: Measurement,
    machine: Machine,
    coverage: Coverage,
}

impl LaunchMatch {
    pub fn digest(&self) -> Measurement {
        self.digest
    }
    /// The machine that matched.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }
    pub fn coverage(&self) -> &Coverage {
        &self.coverage
    }
}

impl OvmfLaunch {
    /// The machine among `machines` on which this guest has the digest `seen`.
    pub fn find(&self, machines: &Machines, enforcement: Enforcement, seen: &Measurement) -> Option<LaunchMatch> {
        let last = machines.vcpus.iter().max()?;
        for vmm in &machines.vmms {
            let before = self.before_vcpus(*vmm);
            for (model, features) in pairs(&machines.models, &machines.features) {
                let digests = self.by_vcpus(&before, *vmm, model, features).take_while(|(count, _)| count <= last);
                for (vcpus, digest) in digests {
                    if digest == *seen && machines.vcpus.contains(&vcpus) {
                        let machine = Machine { vmm: *vmm, vcpus, model, features };
                        return Some(LaunchMatch { digest, machine, coverage: self.coverage(enforcement) });
                    }
                }
            }
        }
        None
    }

    /// What would have to be otherwise for the digest to be `seen`: the answer with the fewest differences among those tried.
    ///
    /// Tried are other vCPU counts up to 512, the models and features that are in use, the other hypervisors, and the usual
    /// slips with kernel, initrd and command line. Some 50,000 hashes at most; it is for people who ask why.
    pub fn explain(&self, machines: &Machines, seen: &Measurement) -> Option<Vec<Difference>> {
        let mut best: Option<Vec<Difference>> = None;
        for (slip, launch) in std::iter::once((None, self.clone())).chain(self.slips()) {
            for vmm in Vmm::ALL {
                let before = launch.before_vcpus(vmm);
                for (model, features) in pairs(&with(&machines.models, &VcpuSignature::KNOWN), &hint_features(machines))
                {
                    let mut digests = launch.by_vcpus(&before, vmm, model, features).take(HINT_VCPUS);
                    let Some((vcpus, _)) = digests.find(|(_, digest)| digest == seen) else { continue };
                    let found = Machine { vmm, vcpus, model, features };
                    let differences = slip.clone().into_iter().chain(machines.differences(&found)).collect::<Vec<_>>();
                    if best.as_ref().is_none_or(|best| differences.len() < best.len()) {
                        best = Some(differences);
                    }
                }
            }
        }
        best
    }

    /// The same guest with what people forget or add.
    fn slips(&self) -> impl Iterator<Item = (Option<Difference>, OvmfLaunch)> {
        let variants = match self.kernel() {
            // A kernel that the reference does not have cannot be guessed.
            None => Vec::new(),
            Some(hashes) => vec![
                (Difference::NoKernelHashes, None),
                (Difference::NoInitrd, Some(KernelHashes { initrd: Ingredient::absent(), ..*hashes })),
                (Difference::EmptyCmdline, Some(KernelHashes { cmdline: Ingredient::of_cmdline(""), ..*hashes })),
            ],
        };
        let firmware = self.firmware().clone();
        variants.into_iter().filter_map(move |(difference, kernel)| {
            let launch = OvmfLaunch::new(firmware.clone(), kernel).ok()?;
            Some((Some(difference), launch))
        })
    }
}

fn pairs(
    models: &[VcpuSignature],
    features: &[GuestFeatures],
) -> impl Iterator<Item = (VcpuSignature, GuestFeatures)> + use<> {
    let (models, features) = (models.to_vec(), features.to_vec());
    models.into_iter().flat_map(move |model| features.clone().into_iter().map(move |features| (model, features)))
}

fn with<T: Copy + PartialEq>(first: &[T], more: &[T]) -> Vec<T> {
    let mut all = first.to_vec();
    all.extend(more.iter().filter(|one| !first.contains(one)));
    all
}

fn hint_features(machines: &Machines) -> Vec<GuestFeatures> {
    // Secure TSC and its like come one by one with new hosts.
    let usual = [0x1, 0x21, 0x5, 0x201, 0x221].map(GuestFeatures::from_raw);
    with(&machines.features, &usual)
}

/// One input that is not what the reference says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Difference {
    Vmm(Vmm),
    Vcpus(VcpuCount),
    Model(VcpuSignature),
    Features(GuestFeatures),
    /// Launched without `kernel-hashes=on`.
    NoKernelHashes,
    NoInitrd,
    EmptyCmdline,
    CommandLine(String),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::Vmm(Vmm::Gce(GceHost::Milan)) => f.write_str("vmm = gce on a Milan host"),
            Difference::Vmm(Vmm::Gce(GceHost::Genoa)) => f.write_str("vmm = gce on a Genoa host"),
            Difference::Vmm(vmm) => write!(f, "vmm = {vmm}"),
            Difference::Vcpus(count) => write!(f, "vcpus = {count}"),
            Difference::Model(model) => write!(f, "vcpu type = {model}"),
            Difference::Features(features) => write!(f, "guest features = {features}"),
            Difference::NoKernelHashes => f.write_str("no kernel measured (kernel-hashes off)"),
            Difference::NoInitrd => f.write_str("no initrd"),
            Difference::EmptyCmdline => f.write_str("an empty command line"),
            Difference::CommandLine(line) => write!(f, "command line = {line:?}"),
        }
    }
}

impl Machines {
    fn differences(&self, found: &Machine) -> Vec<Difference> {
        let mut all = Vec::new();
        if !self.vmms.contains(&found.vmm) {
            all.push(Difference::Vmm(found.vmm));
        }
        if !self.vcpus.contains(&found.vcpus) {
            all.push(Difference::Vcpus(found.vcpus));
        }
        if found.vmm.model_is_measured() && !self.models.contains(&found.model) {
            all.push(Difference::Model(found.model));
        }
        if !self.features.contains(&found.features) {
            all.push(Difference::Features(found.features));
        }
        all
    }
}

/// "it would match with vcpus = 8 and guest features = 0x21 (SNP, DebugSwap)".
pub fn would_match(differences: &[Difference]) -> String {
    let names: Vec<_> = differences.iter().map(Difference::to_string).collect();
    format!("it would match with {}", names.join(" and "))
}
