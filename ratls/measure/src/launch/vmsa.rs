//! The save area that each vCPU starts from, which every hypervisor fills a little differently.
//!
//! AMD APM volume 2, table B-4. One page per vCPU is in the launch digest.

use super::chain::PAGE_BYTES;
use super::vcpu::{GuestFeatures, VcpuSignature};

/// Where the first vCPU starts: the reset vector.
pub(super) const BSP_EIP: u32 = 0xFFFF_FFF0;
/// The last page below 2^48, where KVM says that save areas are.
pub(super) const VMSA_GPA: u64 = 0x0000_FFFF_FFFF_F000;
/// The last page below 2^52, on GCE's Genoa hosts (google/gce-tcb-verifier, sev).
pub(super) const VMSA_GPA_52: u64 = 0x000F_FFFF_FFFF_F000;

/// The registers that differ between hypervisors and between first and other vCPUs.
pub(super) struct Registers {
    code: Segment,
    /// ES, DS and FS; SS is its own.
    data: Segment,
    stack: Segment,
    task_attributes: u16,
    cr0: u64,
    rip: u64,
    pat: u64,
    rdx: u64,
    mxcsr: u32,
    x87_control: u16,
    features: u64,
}

#[derive(Clone, Copy)]
struct Segment {
    selector: u16,
    attributes: u16,
    limit: u32,
    base: u64,
}

impl Segment {
    const fn real_mode(attributes: u16) -> Segment {
        Segment { selector: 0, attributes, limit: 0xFFFF, base: 0 }
    }
    const fn flat(selector: u16, attributes: u16) -> Segment {
        Segment { selector, attributes, limit: 0xFFFF_FFFF, base: 0 }
    }
}

/// PAT after reset (AMD APM volume 2, A.3).
const PAT_RESET: u64 = 0x0007_0406_0007_0406;
/// EDX after reset as EC2 and GCE have it: family 6.
const RDX_FAMILY_6: u64 = 0x600;
/// FCW after FNINIT, which KVM's QEMU loads.
const FCW_INIT: u16 = 0x37F;
const MXCSR_RESET: u32 = 0x1F80;

impl Registers {
    pub(super) fn qemu(eip: u32, vcpu: VcpuSignature, features: GuestFeatures) -> Registers {
        Registers {
            code: Segment { selector: 0xF000, attributes: 0x9B, limit: 0xFFFF, base: u64::from(eip & 0xFFFF_0000) },
            data: Segment::real_mode(0x93),
            stack: Segment::real_mode(0x93),
            task_attributes: 0x8B,
            cr0: 0x10,
            rip: u64::from(eip & 0xFFFF),
            pat: PAT_RESET,
            rdx: u64::from(vcpu.raw()),
            mxcsr: MXCSR_RESET,
            x87_control: FCW_INIT,
            features: features.raw(),
        }
    }

    pub(super) fn ec2(eip: u32, features: GuestFeatures) -> Registers {
        let base = Registers::qemu(eip, VcpuSignature::from_raw(0), features);
        let first = eip == BSP_EIP;
        Registers {
            code: Segment { attributes: if first { 0x9A } else { 0x9B }, ..base.code },
            stack: Segment::real_mode(0x92),
            task_attributes: 0x83,
            rdx: RDX_FAMILY_6,
            mxcsr: 0,
            x87_control: 0,
            ..base
        }
    }

    pub(super) fn gce(eip: u32, features: GuestFeatures) -> Registers {
        let base = Registers::qemu(eip, VcpuSignature::from_raw(0), features);
        Registers { pat: 0x0007_0106, rdx: RDX_FAMILY_6, mxcsr: 0, x87_control: 0, ..base }
    }

    /// Coconut's old `svsm.bin` under QEMU: flat 32-bit segments, and the features are 1 whatever was asked for.
    pub(super) fn svsm_on_qemu(eip: u32, vcpu: VcpuSignature) -> Registers {
        let base = Registers::qemu(eip, vcpu, GuestFeatures::SNP);
        Registers {
            code: Segment::flat(8, 0xC9B),
            data: Segment::flat(16, 0xC93),
            stack: Segment::flat(16, 0xC93),
            cr0: 0x11,
            rip: u64::from(eip),
            x87_control: svsm_x87_control(),
            ..base
        }
    }

    pub(super) fn page(&self) -> [u8; PAGE_BYTES] {
        let mut page = SaveArea([0; PAGE_BYTES]);
        for offset in [0x00, 0x30, 0x40] {
            page.segment(offset, self.data);
        }
        page.segment(0x10, self.code);
        page.segment(0x20, self.stack);
        // GS keeps its 16-bit form where the others are flat.
        page.segment(0x50, Segment::real_mode(0x93));
        page.segment(0x60, Segment::real_mode(0)); // GDTR
        page.segment(0x70, Segment::real_mode(0x82)); // LDTR
        page.segment(0x80, Segment::real_mode(0)); // IDTR
        page.segment(0x90, Segment::real_mode(self.task_attributes));
        page.put(0xD0, &0x1000_u64.to_le_bytes()); // EFER.SVME, which KVM sets
        page.put(0x148, &0x40_u64.to_le_bytes()); // CR4.MCE, which KVM sets
        page.put(0x158, &self.cr0.to_le_bytes());
        page.put(0x160, &0x400_u64.to_le_bytes()); // DR7
        page.put(0x168, &0xFFFF_0FF0_u64.to_le_bytes()); // DR6
        page.put(0x170, &2_u64.to_le_bytes()); // RFLAGS
        page.put(0x178, &self.rip.to_le_bytes());
        page.put(0x268, &self.pat.to_le_bytes());
        page.put(0x310, &self.rdx.to_le_bytes());
        page.put(0x3B0, &self.features.to_le_bytes());
        page.put(0x3E8, &1_u64.to_le_bytes()); // XCR0
        page.put(0x408, &self.mxcsr.to_le_bytes());
        page.put(0x410, &self.x87_control.to_le_bytes());
        page.0
    }
}

/// Unverified: 0 is what sev-snp-measure computes, by a misspelt argument, and its vectors hold. Whether hardware runs have
/// 0 or 0x37F in this mode nobody has published; for Coconut, measure the IGVM file instead (docs/limitations.md).
const fn svsm_x87_control() -> u16 {
    0
}

struct SaveArea([u8; PAGE_BYTES]);

impl SaveArea {
    fn put(&mut self, offset: usize, bytes: &[u8]) {
        self.0.get_mut(offset..offset + bytes.len()).expect("a field of the save area").copy_from_slice(bytes);
    }

    fn segment(&mut self, offset: usize, segment: Segment) {
        self.put(offset, &segment.selector.to_le_bytes());
        self.put(offset + 2, &segment.attributes.to_le_bytes());
        self.put(offset + 4, &segment.limit.to_le_bytes());
        self.put(offset + 8, &segment.base.to_le_bytes());
    }
}
