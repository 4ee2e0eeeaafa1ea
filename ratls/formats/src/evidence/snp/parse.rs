//! 1184 bytes to a [`Report`]: every field at its offset, every reserved byte as the version says.

use super::{
    ChipId, Cpuid, FamilyId, FirmwareVersion, GuestPolicy, HostData, ImageId, KeyDigest, Measurement,
    MitigationVectors, PlatformInfo, REPORT_LEN, Report, ReportData, ReportId, SigningKey,
};
use crate::bytes::{ReadError, Reader};

/// Why some bytes are no report.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    #[error("a report has {REPORT_LEN} bytes, seen {seen}")]
    Length { seen: usize },
    #[error("report version {seen} is not known; known are 2 to 5")]
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

impl Report {
    /// Reads exactly one report.
    pub fn parse(bytes: &[u8]) -> Result<Report, ReportError> {
        let raw: &[u8; REPORT_LEN] = bytes.try_into().map_err(|_| ReportError::Length { seen: bytes.len() })?;
        let mut r = Parser { reader: Reader::new(raw), version: 0 };

        r.version = r.reader.u32_le()?;
        let version = r.version;
        // Version 4 has the layout of version 3: both carry CPUID, neither has mitigation vectors.
        if !matches!(version, 2..=5) {
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
}

/// The reader, and the version that says what reserved means.
struct Parser<'a> {
    reader: Reader<'a>,
    version: u32,
}

impl Parser<'_> {
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
    use super::super::ECDSA_P384_SHA384;
    use super::*;
    use crate::tcb::Product;

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
        for version in [0, 1, 6, u32::MAX] {
            assert_eq!(Report::parse(&sample(version)), Err(ReportError::Version { seen: version }));
        }
    }

    #[test]
    fn refuses_every_reserved_byte_that_is_not_zero() {
        let always = [0x04C..0x050, 0x18B..0x1A0, 0x1EB..0x1EC, 0x1EF..0x1F0, 0x208..0x2A0];
        for version in [2, 3, 4, 5] {
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
