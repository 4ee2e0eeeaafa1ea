//! A report's fields, each by its name.

use super::{
    ChipId, Cpuid, FamilyId, FirmwareVersion, GuestPolicy, HostData, ImageId, KeyDigest, Measurement,
    MitigationVectors, PlatformInfo, REPORT_LEN, ReportData, ReportId, SIGNED_LEN, SigningKey, TcbKind,
};
use crate::tcb::{Product, TcbLayout, TcbVersion};

/// A report that was parsed, not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub(super) raw: Box<[u8; REPORT_LEN]>,
    pub(super) version: u32,
    pub(super) guest_svn: u32,
    pub(super) policy: GuestPolicy,
    pub(super) family_id: FamilyId,
    pub(super) image_id: ImageId,
    pub(super) vmpl: u32,
    pub(super) signature_algorithm: u32,
    pub(super) current_tcb: u64,
    pub(super) platform_info: PlatformInfo,
    pub(super) author_key_en: bool,
    pub(super) mask_chip_key: bool,
    pub(super) signing_key: SigningKey,
    pub(super) report_data: ReportData,
    pub(super) measurement: Measurement,
    pub(super) host_data: HostData,
    pub(super) id_key_digest: KeyDigest,
    pub(super) author_key_digest: KeyDigest,
    pub(super) report_id: ReportId,
    pub(super) report_id_ma: ReportId,
    pub(super) reported_tcb: u64,
    pub(super) cpuid: Option<Cpuid>,
    pub(super) chip_id: ChipId,
    pub(super) committed_tcb: u64,
    pub(super) current_firmware: FirmwareVersion,
    pub(super) committed_firmware: FirmwareVersion,
    pub(super) launch_tcb: u64,
    pub(super) mitigation: Option<MitigationVectors>,
    pub(super) signature: [u8; 96],
}

impl Report {
    /// The report as received.
    pub fn raw(&self) -> &[u8; REPORT_LEN] {
        &self.raw
    }
    /// What the signature is over.
    pub fn signed_bytes(&self) -> &[u8] {
        &self.raw[..SIGNED_LEN]
    }
    pub fn version(&self) -> u32 {
        self.version
    }
    /// Security version of the guest, from the ID block.
    pub fn guest_svn(&self) -> u32 {
        self.guest_svn
    }
    pub fn policy(&self) -> GuestPolicy {
        self.policy
    }
    pub fn family_id(&self) -> &FamilyId {
        &self.family_id
    }
    pub fn image_id(&self) -> &ImageId {
        &self.image_id
    }
    /// The level that was asked for; the requester ran at this one or a more privileged one.
    pub fn vmpl(&self) -> u32 {
        self.vmpl
    }
    /// `ECDSA_P384_SHA384` in every report that verifies.
    pub fn signature_algorithm(&self) -> u32 {
        self.signature_algorithm
    }
    pub fn platform_info(&self) -> PlatformInfo {
        self.platform_info
    }
    pub fn author_key_en(&self) -> bool {
        self.author_key_en
    }
    pub fn mask_chip_key(&self) -> bool {
        self.mask_chip_key
    }
    pub fn signing_key(&self) -> SigningKey {
        self.signing_key
    }
    pub fn report_data(&self) -> &ReportData {
        &self.report_data
    }
    pub fn measurement(&self) -> &Measurement {
        &self.measurement
    }
    pub fn host_data(&self) -> &HostData {
        &self.host_data
    }
    /// Zero where the guest had no ID block.
    pub fn id_key_digest(&self) -> &KeyDigest {
        &self.id_key_digest
    }
    /// Zero unless [`Report::author_key_en`].
    pub fn author_key_digest(&self) -> &KeyDigest {
        &self.author_key_digest
    }
    pub fn report_id(&self) -> &ReportId {
        &self.report_id
    }
    /// All ones where no migration agent is associated.
    pub fn report_id_ma(&self) -> &ReportId {
        &self.report_id_ma
    }
    /// `None` in version 2, which does not carry it.
    pub fn cpuid(&self) -> Option<Cpuid> {
        self.cpuid
    }
    /// `None` where there is no CPUID or it is of no known product; [`Report::cpuid`] tells which.
    pub fn product_from_cpuid(&self) -> Option<Product> {
        self.cpuid.and_then(Cpuid::product)
    }
    pub fn chip_id(&self) -> &ChipId {
        &self.chip_id
    }
    /// One of the four TCB versions, read in the layout of the product.
    pub fn tcb(&self, kind: TcbKind, layout: TcbLayout) -> TcbVersion {
        let raw = match kind {
            TcbKind::Current => self.current_tcb,
            TcbKind::Reported => self.reported_tcb,
            TcbKind::Committed => self.committed_tcb,
            TcbKind::Launch => self.launch_tcb,
        };
        TcbVersion::from_raw(layout, raw)
    }
    pub fn current_firmware(&self) -> FirmwareVersion {
        self.current_firmware
    }
    pub fn committed_firmware(&self) -> FirmwareVersion {
        self.committed_firmware
    }
    /// `None` before version 5.
    pub fn mitigation(&self) -> Option<MitigationVectors> {
        self.mitigation
    }
    /// r ‖ s, each 48 bytes and big-endian. Zero where the firmware did not sign.
    pub fn signature_fixed(&self) -> [u8; 96] {
        self.signature
    }
}
