//! The SEV-SNP attestation report: 1184 bytes to typed fields.
//!
//! The raw bytes are kept, because signatures and digests are over what was received and never over something re-encoded. For
//! the versions that are known (2, 3 and 5) every reserved byte must hold what the ABI says; another version is refused, since
//! nobody knows what its bytes mean. A parsed report proves nothing: [`crate::verify::report`] does.
//!
//! Source: AMD 56860, table ATTESTATION_REPORT; platforms.md §2.1. PLATFORM_INFO is not held to its reserved bits: Turin
//! firmware sets bit 6, which no public revision names.

mod fields;

pub use fields::{
    ChipId, Cpuid, FamilyId, FirmwareVersion, GuestPolicy, HostData, ImageId, KeyDigest, Measurement,
    MitigationVectors, PlatformInfo, ReportData, ReportId, SigningKey,
};

use crate::bytes::{ReadError, Reader};
use crate::tcb::{Product, TcbLayout, TcbVersion};

/// Length of a report.
pub const REPORT_LEN: usize = 0x4A0;
/// The signature is over the bytes before it.
const SIGNED_LEN: usize = 0x2A0;
/// SIGNATURE_ALGO of ECDSA on P-384 with SHA-384, the only one there is.
pub const ECDSA_P384_SHA384: u32 = 1;

/// Why some bytes are no report.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    #[error("a report has {REPORT_LEN} bytes, seen {seen}")]
    Length { seen: usize },
    #[error("report version {seen} is not known; known are 2, 3 and 5")]
    Version { seen: u32 },
    #[error("reserved {field} at offset {offset:#x} is not what report version {version} says")]
    Reserved { field: &'static str, offset: usize, version: u32 },
    #[error("SIGNING_KEY has the reserved value {seen}; known are 0 (VCEK), 1 (VLEK) and 7 (none)")]
    SigningKey { seen: u32 },
    #[error("the signature has bytes other than zero after its r and s, at offset {offset:#x}")]
    SignaturePadding { offset: usize },
    #[error("the report cannot be read")]
    Read(#[from] ReadError),
}

/// Which of the four TCB versions of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TcbKind {
    /// What runs now.
    Current,
    /// What the signing key was derived for.
    Reported,
    /// What the host can no longer go below.
    Committed,
    /// What ran when the guest was launched or imported.
    Launch,
}

impl TcbKind {
    pub const ALL: [TcbKind; 4] = [TcbKind::Current, TcbKind::Reported, TcbKind::Committed, TcbKind::Launch];
}

impl std::fmt::Display for TcbKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            TcbKind::Current => "current",
            TcbKind::Reported => "reported",
            TcbKind::Committed => "committed",
            TcbKind::Launch => "launch",
        })
    }
}

/// A report that was parsed, not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    raw: Box<[u8; REPORT_LEN]>,
    version: u32,
    guest_svn: u32,
    policy: GuestPolicy,
    family_id: FamilyId,
    image_id: ImageId,
    vmpl: u32,
    signature_algorithm: u32,
    current_tcb: u64,
    platform_info: PlatformInfo,
    author_key_en: bool,
    mask_chip_key: bool,
    signing_key: SigningKey,
    report_data: ReportData,
    measurement: Measurement,
    host_data: HostData,
    id_key_digest: KeyDigest,
    author_key_digest: KeyDigest,
    report_id: ReportId,
    report_id_ma: ReportId,
    reported_tcb: u64,
    cpuid: Option<Cpuid>,
    chip_id: ChipId,
    committed_tcb: u64,
    current_firmware: FirmwareVersion,
    committed_firmware: FirmwareVersion,
    launch_tcb: u64,
    mitigation: Option<MitigationVectors>,
    signature: [u8; 96],
}

impl Report {
    /// Reads exactly one report.
    pub fn parse(bytes: &[u8]) -> Result<Report, ReportError> {
        let raw: &[u8; REPORT_LEN] = bytes.try_into().map_err(|_| ReportError::Length { seen: bytes.len() })?;
        let mut r = Fields { reader: Reader::new(raw), version: 0 };

        r.version = r.reader.u32_le()?;
        let version = r.version;
        if !matches!(version, 2 | 3 | 5) {
            return Err(ReportError::Version { seen: version });
        }
        let guest_svn = r.reader.u32_le()?;
        let policy_offset = r.reader.offset();
        let policy = GuestPolicy::from_raw(r.reader.u64_le()?);
        if !policy.reserved_is_right() {
            return Err(ReportError::Reserved { field: "bits of the guest policy", offset: policy_offset, version });
        }
        let family_id = FamilyId::from_bytes(r.reader.array()?);
        let image_id = ImageId::from_bytes(r.reader.array()?);
        let vmpl = r.reader.u32_le()?;
        let signature_algorithm = r.reader.u32_le()?;
        let current_tcb = r.reader.u64_le()?;
        let platform_info = PlatformInfo::from_raw(r.reader.u64_le()?);
        let (author_key_en, mask_chip_key, signing_key) = r.key_info()?;
        r.zero("bytes after the key information", 4)?;
        let report_data = ReportData::from_bytes(r.reader.array()?);
        let measurement = Measurement::from_bytes(r.reader.array()?);
        let host_data = HostData::from_bytes(r.reader.array()?);
        let id_key_digest = KeyDigest::from_bytes(r.reader.array()?);
        let author_key_digest = KeyDigest::from_bytes(r.reader.array()?);
        let report_id = ReportId::from_bytes(r.reader.array()?);
        let report_id_ma = ReportId::from_bytes(r.reader.array()?);
        let reported_tcb = r.reader.u64_le()?;
        let cpuid = r.cpuid()?;
        r.zero("bytes after the CPUID", 21)?;
        let chip_id = ChipId::from_bytes(r.reader.array()?);
        let committed_tcb = r.reader.u64_le()?;
        let current_firmware = r.firmware()?;
        let committed_firmware = r.firmware()?;
        let launch_tcb = r.reader.u64_le()?;
        let mitigation = r.mitigation()?;
        r.zero("bytes before the signature", 152)?;
        let signature = r.signature()?;
        r.reader.finish()?;

        Ok(Report {
            raw: Box::new(*raw),
            version,
            guest_svn,
            policy,
            family_id,
            image_id,
            vmpl,
            signature_algorithm,
            current_tcb,
            platform_info,
            author_key_en,
            mask_chip_key,
            signing_key,
            report_data,
            measurement,
            host_data,
            id_key_digest,
            author_key_digest,
            report_id,
            report_id_ma,
            reported_tcb,
            cpuid,
            chip_id,
            committed_tcb,
            current_firmware,
            committed_firmware,
            launch_tcb,
            mitigation,
            signature,
        })
    }

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
    /// [`ECDSA_P384_SHA384`] in every report that verifies.
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

/// The reader, and the version that says what reserved means.
struct Fields<'a> {
    reader: Reader<'a>,
    version: u32,
}

impl Fields<'_> {
    fn zero(&mut self, field: &'static str, len: usize) -> Result<(), ReportError> {
        let offset = self.reader.offset();
        match self.reader.take(len)?.iter().position(|b| *b != 0) {
            None => Ok(()),
            Some(at) => Err(ReportError::Reserved { field, offset: offset + at, version: self.version }),
        }
    }

    /// Bit 0 AUTHOR_KEY_EN, bit 1 MASK_CHIP_KEY, bits 4:2 SIGNING_KEY.
    fn key_info(&mut self) -> Result<(bool, bool, SigningKey), ReportError> {
        let offset = self.reader.offset();
        let bits = self.reader.u32_le()?;
        if bits >> 5 != 0 {
            let field = "bits of the key information";
            return Err(ReportError::Reserved { field, offset, version: self.version });
        }
        let key = (bits >> 2) & 7;
        let key = SigningKey::from_bits(key).ok_or(ReportError::SigningKey { seen: key })?;
        Ok((bits & 1 != 0, bits & 2 != 0, key))
    }

    fn cpuid(&mut self) -> Result<Option<Cpuid>, ReportError> {
        if self.version < 3 {
            self.zero("bytes that are the CPUID from version 3 on", 3)?;
            return Ok(None);
        }
        let [family, model, stepping] = self.reader.array()?;
        Ok(Some(Cpuid { family, model, stepping }))
    }

    fn firmware(&mut self) -> Result<FirmwareVersion, ReportError> {
        let [build, minor, major] = self.reader.array()?;
        self.zero("byte after a firmware version", 1)?;
        Ok(FirmwareVersion { major, minor, build })
    }

    fn mitigation(&mut self) -> Result<Option<MitigationVectors>, ReportError> {
        if self.version < 5 {
            self.zero("bytes that are the mitigation vectors from version 5 on", 16)?;
            return Ok(None);
        }
        Ok(Some(MitigationVectors { launch: self.reader.u64_le()?, current: self.reader.u64_le()? }))
    }

    /// r and s are little-endian in 72 bytes each, of which P-384 uses 48; the rest of the 512 bytes is zero.
    fn signature(&mut self) -> Result<[u8; 96], ReportError> {
        let mut fixed = [0; 96];
        let (r, s) = fixed.split_at_mut(48);
        for half in [r, s] {
            half.copy_from_slice(self.reader.take(48)?);
            half.reverse();
            self.padding(24)?;
        }
        self.padding(512 - 2 * 72)?;
        Ok(fixed)
    }

    fn padding(&mut self, len: usize) -> Result<(), ReportError> {
        let offset = self.reader.offset();
        match self.reader.take(len)?.iter().position(|b| *b != 0) {
            None => Ok(()),
            Some(at) => Err(ReportError::SignaturePadding { offset: offset + at }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A version 5 report in which every field holds something else.
    fn sample(version: u32) -> [u8; REPORT_LEN] {
        let mut raw = [0; REPORT_LEN];
        let mut put = |at: usize, bytes: &[u8]| raw[at..at + bytes.len()].copy_from_slice(bytes);
        put(0x000, &version.to_le_bytes());
        put(0x004, &7u32.to_le_bytes());
        put(0x008, &0x3001Fu64.to_le_bytes());
        put(0x034, &ECDSA_P384_SHA384.to_le_bytes());
        put(0x048, &0b00101u32.to_le_bytes());
        put(0x050, &[0xDA; 64]);
        put(0x090, &[0xEA; 48]);
        put(0x1E8, &[40, 55, 1]);
        if version >= 3 {
            put(0x188, &[0x1A, 0x02, 0x01]);
        }
        if version >= 5 {
            put(0x1F8, &3u64.to_le_bytes());
            put(0x200, &1u64.to_le_bytes());
        }
        put(0x2A0, &[1]);
        put(0x2A0 + 72, &[2]);
        raw
    }

    #[test]
    fn fields_come_from_their_offsets() {
        let report = Report::parse(&sample(5)).unwrap();
        assert_eq!(report.guest_svn(), 7);
        assert_eq!(report.signing_key(), SigningKey::Vlek);
        assert!(report.author_key_en() && !report.mask_chip_key());
        assert_eq!(report.report_data(), &ReportData::from_bytes([0xDA; 64]));
        assert_eq!(report.measurement(), &Measurement::from_bytes([0xEA; 48]));
        assert_eq!(report.product_from_cpuid(), Some(Product::Turin));
        assert_eq!(report.current_firmware().to_string(), "1.55.40");
        assert_eq!(report.mitigation(), Some(MitigationVectors { launch: 3, current: 1 }));
        let signature = report.signature_fixed();
        assert_eq!((signature[47], signature[95]), (1, 2));
        assert_eq!(signature.iter().filter(|b| **b != 0).count(), 2);
        assert_eq!(report.raw()[..], sample(5)[..]);
        assert_eq!(report.signed_bytes(), &sample(5)[..0x2A0]);
    }

    #[test]
    fn refuses_another_length_and_another_version() {
        assert_eq!(Report::parse(&sample(3)[1..]), Err(ReportError::Length { seen: 1183 }));
        assert_eq!(Report::parse(&[]), Err(ReportError::Length { seen: 0 }));
        for version in [0, 1, 4, 6, u32::MAX] {
            assert_eq!(Report::parse(&sample(version)), Err(ReportError::Version { seen: version }));
        }
    }

    #[test]
    fn refuses_every_reserved_byte_that_is_not_zero() {
        let always = [0x04C..0x050, 0x18B..0x1A0, 0x1EB..0x1EC, 0x1EF..0x1F0, 0x208..0x2A0];
        for version in [2, 3, 5] {
            let mut reserved: Vec<usize> = always.iter().cloned().flatten().collect();
            if version < 3 {
                reserved.extend(0x188..0x18B);
            }
            if version < 5 {
                reserved.extend(0x1F8..0x208);
            }
            for offset in reserved {
                let mut raw = sample(version);
                raw[offset] = 0x80;
                assert!(
                    matches!(Report::parse(&raw), Err(ReportError::Reserved { offset: at, .. }) if at == offset),
                    "version {version}, offset {offset:#x}"
                );
            }
        }
    }

    #[test]
    fn refuses_reserved_bits_of_policy_and_key_information() {
        for (offset, bit) in [(0x00A, 0x02), (0x00B, 0x04), (0x00F, 0x80), (0x048, 0x20), (0x04B, 0x80)] {
            let mut raw = sample(3);
            raw[offset] ^= bit;
            assert!(matches!(Report::parse(&raw), Err(ReportError::Reserved { .. })), "offset {offset:#x}");
        }
        let mut raw = sample(3);
        raw[0x048] = 2 << 2;
        assert_eq!(Report::parse(&raw), Err(ReportError::SigningKey { seen: 2 }));
    }

    #[test]
    fn refuses_bytes_in_the_padding_of_the_signature() {
        for offset in (0x2A0 + 48..0x2A0 + 72).chain(0x2A0 + 120..0x4A0) {
            let mut raw = sample(2);
            raw[offset] = 1;
            assert_eq!(Report::parse(&raw), Err(ReportError::SignaturePadding { offset }));
        }
    }
}
