//! How the hypervisor launches: which one it is, and its virtual processors. Everything here changes the launch digest, and
//! nothing of it is in the firmware's file, so a reference names it or lets it be searched.

use std::fmt;
use std::str::FromStr;

use super::chain::{PAGE_BYTES, PageChain};
use super::vcpu::{GuestFeatures, MAX_VCPUS, VcpuSignature};
use super::vmsa::{BSP_EIP, Registers, VMSA_GPA, VMSA_GPA_52};
use formats::crypto::sha384;
use formats::evidence::snp::Measurement;

/// Who launches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Vmm {
    Qemu,
    Ec2,
    Gce(GceHost),
}

/// GCE puts save areas at another address on hosts with 52-bit physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GceHost {
    Milan,
    Genoa,
}

impl Vmm {
    pub const ALL: [Vmm; 4] = [Vmm::Qemu, Vmm::Ec2, Vmm::Gce(GceHost::Milan), Vmm::Gce(GceHost::Genoa)];

    const fn vmsa_gpa(self) -> u64 {
        match self {
            Vmm::Qemu | Vmm::Ec2 | Vmm::Gce(GceHost::Milan) => VMSA_GPA,
            Vmm::Gce(GceHost::Genoa) => VMSA_GPA_52,
        }
    }

    /// EC2 and GCE show every guest the same processor before it asks CPUID.
    pub const fn model_is_measured(self) -> bool {
        matches!(self, Vmm::Qemu)
    }
}

/// A text that names no hypervisor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no hypervisor; known: qemu, ec2, gce (on Milan hosts), gce-genoa")]
pub struct UnknownVmm(String);

impl FromStr for Vmm {
    type Err = UnknownVmm;

    fn from_str(text: &str) -> Result<Vmm, UnknownVmm> {
        let found = Vmm::ALL.into_iter().find(|vmm| vmm.to_string() == text);
        found.ok_or_else(|| UnknownVmm(text.chars().take(64).collect()))
    }
}

impl fmt::Display for Vmm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Vmm::Qemu => "qemu",
            Vmm::Ec2 => "ec2",
            Vmm::Gce(GceHost::Milan) => "gce",
            Vmm::Gce(GceHost::Genoa) => "gce-genoa",
        })
    }
}

/// One way to launch a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    pub vmm: Vmm,
    pub vcpus: VcpuCount,
    pub model: VcpuSignature,
    pub features: GuestFeatures,
}

/// 1 to [`MAX_VCPUS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VcpuCount(u32);

/// A number of vCPUs that no guest has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} vCPUs; wanted 1 to {MAX_VCPUS}")]
pub struct BadVcpuCount(pub u64);

impl VcpuCount {
    pub fn new(count: u64) -> Result<VcpuCount, BadVcpuCount> {
        match u32::try_from(count) {
            Ok(n) if (1..=MAX_VCPUS).contains(&n) => Ok(VcpuCount(n)),
            _ => Err(BadVcpuCount(count)),
        }
    }
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for VcpuCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { vmm, vcpus, model, features } = self;
        write!(f, "{vmm}, {vcpus} vCPU{}", if vcpus.0 == 1 { "" } else { "s" })?;
        if vmm.model_is_measured() {
            write!(f, " of type {model}")?;
        }
        write!(f, ", guest features {features}")
    }
}

/// Digests of the same guest with 1, 2, 3 … vCPUs: the save areas come last, so each is the one before and a page more.
pub(super) struct ByVcpus {
    chain: PageChain,
    gpa: u64,
    first: [u8; 48],
    others: Option<[u8; 48]>,
    count: u32,
}

impl ByVcpus {
    /// `reset_eip` is where further vCPUs start; without it there can be only one.
    pub(super) fn ovmf(
        chain: PageChain,
        vmm: Vmm,
        reset_eip: Option<u32>,
        model: VcpuSignature,
        features: GuestFeatures,
    ) -> ByVcpus {
        let hash = |eip| {
            let registers = match vmm {
                Vmm::Qemu => Registers::qemu(eip, model, features),
                Vmm::Ec2 => Registers::ec2(eip, features),
                Vmm::Gce(_) => Registers::gce(eip, features),
            };
            hash(&registers.page())
        };
        ByVcpus { chain, gpa: vmm.vmsa_gpa(), first: hash(BSP_EIP), others: reset_eip.map(hash), count: 0 }
    }

    /// All vCPUs start in the SVSM, at one address.
    pub(super) fn svsm_on_qemu(chain: PageChain, entry: u32, model: VcpuSignature) -> ByVcpus {
        let area = hash(&Registers::svsm_on_qemu(entry, model).page());
        ByVcpus { chain, gpa: VMSA_GPA, first: area, others: Some(area), count: 0 }
    }
}

fn hash(page: &[u8; PAGE_BYTES]) -> [u8; 48] {
    *sha384(&[page]).as_bytes()
}

impl Iterator for ByVcpus {
    type Item = (VcpuCount, Measurement);

    fn next(&mut self) -> Option<Self::Item> {
        if self.count == MAX_VCPUS {
            return None;
        }
        let area = if self.count == 0 { self.first } else { self.others? };
        self.chain.add_vmsa_hashed(self.gpa, &area);
        self.count += 1;
        Some((VcpuCount(self.count), self.chain.digest()))
    }
}
