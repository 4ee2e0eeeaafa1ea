//! A launch digest from what was launched: firmware, optionally kernel, initrd and command line, and the machine.
//!
//! Assumes nothing of where the files came from. A recipe knows of each input whether its bytes were here or only a digest of
//! them, because that is the difference between "recomputed from the binary" and "equal to what somebody named".

use super::chain::{Page, PageChain};
use super::cover::{Coverage, Enforcement};
use super::hashes::KernelHashes;
use super::machine::{ByVcpus, Machine, VcpuCount, Vmm};
use super::ovmf::{OvmfError, OvmfLayout, SectionKind};
use super::vcpu::{GuestFeatures, VcpuSignature};
use formats::crypto::{sha256, sha384};
use formats::digest::{Sha256Digest, Sha384Digest};
use formats::evidence::snp::Measurement;

/// The firmware ends at 4 GiB.
const FOUR_GIB: u64 = 1 << 32;

/// Why something cannot be measured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    #[error("firmware: {0}")]
    Firmware(#[from] OvmfError),
    #[error("SVSM: {0}")]
    Svsm(OvmfError),
    /// Such a firmware would boot any kernel under the same digest.
    #[error(
        "a kernel is to be measured, but this firmware has no section for kernel hashes: its launch digest says nothing of the kernel"
    )]
    NoKernelHashes,
    #[error("the hash table does not fit on its page at {0:#x}")]
    HashTableOffset(u32),
    #[error("the firmware does not say where further vCPUs start, so it can have only one")]
    NoResetBlock,
    #[error("the SVSM's image does not say where it starts")]
    NoSvsmEntry,
    #[error("firmware, variables and SVSM do not fit below 4 GiB")]
    NoRoom,
}

/// An OVMF image, or what is known of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firmware {
    after_pages: Measurement,
    layout: OvmfLayout,
    file: Option<FirmwareFile>,
}

/// Names of a firmware's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirmwareFile {
    pub sha256: Sha256Digest,
    /// Under which GCE publishes its firmware.
    pub sha384: Sha384Digest,
}

impl Firmware {
    pub fn from_image(image: &[u8]) -> Result<Firmware, OvmfError> {
        let layout = OvmfLayout::parse(image)?;
        let mut chain = PageChain::new();
        add_below(&mut chain, FOUR_GIB, image)?;
        let file = FirmwareFile { sha256: sha256(&[image]), sha384: sha384(&[image]) };
        Ok(Firmware { after_pages: chain.digest(), layout, file: Some(file) })
    }

    /// From the digest after the firmware's own pages, as `sev-snp-measure --mode snp:ovmf-hash` prints it, and the layout.
    pub fn from_digest(after_pages: Measurement, layout: OvmfLayout) -> Firmware {
        Firmware { after_pages, layout, file: None }
    }

    /// The launch digest after the firmware's own pages.
    pub fn after_pages(&self) -> Measurement {
        self.after_pages
    }
    pub fn layout(&self) -> &OvmfLayout {
        &self.layout
    }
    /// `None` where the file itself was not here.
    pub fn file(&self) -> Option<&FirmwareFile> {
        self.file.as_ref()
    }
    pub fn is_held(&self) -> bool {
        self.file.is_some()
    }
}

/// Adds `image` as pages that end at `end`; gives where they begin.
fn add_below(chain: &mut PageChain, end: u64, image: &[u8]) -> Result<u64, OvmfError> {
    let size = OvmfError::Size { seen: image.len() };
    let start = u64::try_from(image.len()).ok().and_then(|len| end.checked_sub(len)).ok_or(size.clone())?;
    chain.add_normal(start, image).map_err(|_| size)?;
    Ok(start)
}

/// A guest that starts with OVMF: everything that is measured before the first vCPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OvmfLaunch {
    firmware: Firmware,
    kernel: Option<KernelHashes>,
}

impl OvmfLaunch {
    /// Refuses kernel hashes that this firmware would not look at.
    pub fn new(firmware: Firmware, kernel: Option<KernelHashes>) -> Result<OvmfLaunch, LaunchError> {
        if let Some(kernel) = &kernel {
            let table = firmware.layout.hash_table_gpa.filter(|_| firmware.layout.takes_kernel_hashes());
            let table = table.ok_or(LaunchError::NoKernelHashes)?;
            kernel.page(table).ok_or(LaunchError::HashTableOffset(table))?;
        }
        Ok(OvmfLaunch { firmware, kernel })
    }

    pub fn firmware(&self) -> &Firmware {
        &self.firmware
    }
    pub fn kernel(&self) -> Option<&KernelHashes> {
        self.kernel.as_ref()
    }

    /// The digest of this guest on that machine.
    pub fn digest(&self, machine: &Machine) -> Result<Measurement, LaunchError> {
        let wanted = machine.vcpus;
        let mut digests = self.by_vcpus(&self.before_vcpus(machine.vmm), machine.vmm, machine.model, machine.features);
        digests.find(|(count, _)| *count == wanted).map(|(_, digest)| digest).ok_or(LaunchError::NoResetBlock)
    }

    pub fn coverage(&self, enforcement: Enforcement) -> Coverage {
        Coverage::of_ovmf(self, enforcement)
    }

    pub(super) fn before_vcpus(&self, vmm: Vmm) -> PageChain {
        let mut chain = PageChain::after(self.firmware.after_pages);
        let layout = &self.firmware.layout;
        // EC2 inserts CPUID pages after everything else.
        let late = |kind| vmm == Vmm::Ec2 && kind == SectionKind::Cpuid;
        let now = layout.sections.iter().filter(|s| !late(s.kind));
        for section in now.chain(layout.sections.iter().filter(|s| late(s.kind))) {
            let gpa = u64::from(section.gpa);
            let page = match (section.kind, vmm) {
                (SectionKind::SecMemory, Vmm::Gce(_)) => Page::Unmeasured,
                (SectionKind::SecMemory | SectionKind::SvsmCallingArea, _) => Page::Zero,
                (SectionKind::Secrets, _) => Page::Secrets,
                (SectionKind::Cpuid, _) => Page::Cpuid,
                (SectionKind::KernelHashes, _) => match self.hash_page() {
                    None => Page::Zero,
                    Some(page) => {
                        chain.add(gpa, Page::Normal(&page));
                        continue;
                    }
                },
            };
            chain.repeat(gpa, section.pages, page);
        }
        chain
    }

    fn hash_page(&self) -> Option<[u8; super::chain::PAGE_BYTES]> {
        self.kernel.as_ref()?.page(self.firmware.layout.hash_table_gpa?)
    }

    pub(super) fn by_vcpus(
        &self,
        before: &PageChain,
        vmm: Vmm,
        model: VcpuSignature,
        features: GuestFeatures,
    ) -> ByVcpus {
        ByVcpus::ovmf(*before, vmm, self.firmware.layout.reset_eip, model, features)
    }
}

/// Coconut's old `svsm.bin` loader under QEMU: OVMF's pages, the SVSM's below them, and the SVSM's own sections.
///
/// Newer Coconut is launched from an IGVM file. See `super::vmsa` for what is unverified here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SvsmLaunch {
    before_vcpus: PageChain,
    entry: u32,
}

impl SvsmLaunch {
    /// `vars_bytes` is the size of the variable store between the two images.
    pub fn new(ovmf: &[u8], svsm: &[u8], vars_bytes: u32) -> Result<SvsmLaunch, LaunchError> {
        OvmfLayout::parse(ovmf)?;
        let layout = OvmfLayout::parse(svsm).map_err(LaunchError::Svsm)?;
        let mut chain = PageChain::new();
        let ovmf_start = add_below(&mut chain, FOUR_GIB, ovmf)?;
        let svsm_end = ovmf_start.checked_sub(u64::from(vars_bytes)).ok_or(LaunchError::NoRoom)?;
        let svsm_start = add_below(&mut chain, svsm_end, svsm).map_err(LaunchError::Svsm)?;
        let start = u32::try_from(svsm_start).map_err(|_| LaunchError::NoRoom)?;
        let offset = layout.svsm_entry.ok_or(LaunchError::NoSvsmEntry)?;
        let entry = start.checked_add(offset).ok_or(LaunchError::NoRoom)?;
        let launch = OvmfLaunch::new(Firmware::from_digest(chain.digest(), layout), None)?;
        Ok(SvsmLaunch { before_vcpus: launch.before_vcpus(Vmm::Qemu), entry })
    }

    pub fn digest(&self, vcpus: VcpuCount, model: VcpuSignature) -> Measurement {
        let mut digests = ByVcpus::svsm_on_qemu(self.before_vcpus, self.entry, model);
        let found = digests.find(|(count, _)| *count == vcpus);
        found.map(|(_, digest)| digest).expect("every SVSM vCPU has a save area")
    }
}

#[cfg(test)]
mod tests {
    use super::super::hashes::Ingredient;
    use super::super::machine::GceHost;
    use super::*;

    fn machine(vmm: Vmm, vcpus: u64) -> Machine {
        let vcpus = VcpuCount::new(vcpus).unwrap();
        Machine { vmm, vcpus, model: VcpuSignature::of_model(23, 1, 2), features: GuestFeatures::SNP }
    }

    fn hashes(kernel: &[u8]) -> KernelHashes {
        KernelHashes {
            kernel: Ingredient::of_file(kernel),
            initrd: Ingredient::absent(),
            cmdline: Ingredient::of_cmdline("ro"),
        }
    }

    #[test]
    fn every_input_is_in_the_digest() {
        let image = super::super::ovmf::tests::good();
        let mut other = image.clone();
        other[0] ^= 1;
        let launch = |image: &[u8], kernel| OvmfLaunch::new(Firmware::from_image(image).unwrap(), kernel).unwrap();
        let base = machine(Vmm::Qemu, 2);
        let mut seen = vec![
            launch(&other, Some(hashes(b"kernel"))).digest(&base),
            launch(&image, Some(hashes(b"Kernel"))).digest(&base),
            launch(&image, None).digest(&base),
        ];
        let guest = launch(&image, Some(hashes(b"kernel")));
        for machine in [
            base,
            machine(Vmm::Qemu, 1),
            machine(Vmm::Ec2, 2),
            machine(Vmm::Gce(GceHost::Milan), 2),
            machine(Vmm::Gce(GceHost::Genoa), 2),
            Machine { features: GuestFeatures::SNP_DEBUG_SWAP, ..base },
            Machine { model: VcpuSignature::of_model(25, 1, 1), ..base },
        ] {
            seen.push(guest.digest(&machine));
        }
        let mut digests: Vec<_> = seen.into_iter().map(Result::unwrap).collect();
        digests.sort();
        digests.dedup();
        assert_eq!(digests.len(), 10);
    }

    #[test]
    fn a_second_vcpu_needs_a_place_to_start() {
        let layout = OvmfLayout::from_parts(None, None, &[(0x80_0000, 0x1000, 1)]).unwrap();
        let launch = OvmfLaunch::new(Firmware::from_digest(Measurement::from_bytes([1; 48]), layout), None).unwrap();
        assert!(launch.digest(&machine(Vmm::Qemu, 1)).is_ok());
        assert_eq!(launch.digest(&machine(Vmm::Qemu, 2)), Err(LaunchError::NoResetBlock));
    }

    #[test]
    fn a_hash_table_must_fit_on_its_page() {
        for (table, fits) in [(0x81_0F50, true), (0x81_0F51, false)] {
            let layout = OvmfLayout::from_parts(None, Some(table), &[(0x81_0000, 0x1000, 0x10)]).unwrap();
            let firmware = Firmware::from_digest(Measurement::from_bytes([1; 48]), layout);
            assert_eq!(OvmfLaunch::new(firmware, Some(hashes(b"k"))).is_ok(), fits);
        }
    }
}
