//! What an SVSM says of its services: the manifest that stands, behind the nonce, in the REPORT_DATA of a VMPL 0 report.
//!
//! For one service the manifest is that service's bytes and no more; the service's GUID is not hashed. So an EK is recognised by
//! its shape alone, and the shape is strict: every byte but the modulus is fixed. In a manifest of all services the GUIDs
//! are hashed too, which is better where it is offered (Coconut-SVSM, attest.rs).

use crate::bytes::{ReadError, Reader};
use crate::crypto::sha512;
use crate::digest::{Sha512Digest, bytes_type};
use crate::evidence::tpm::{Public, PublicError};

pub use crate::wire::svsm::Nonce;

bytes_type!(
    /// A GUID in the byte order of SVSM and UEFI: the first three fields little-endian.
    MixedGuid, 16);

/// The vTPM service, c476f1eb-0123-45a5-9641-b4e7dde5bfe3.
pub const VTPM_SERVICE: MixedGuid = MixedGuid::from_bytes([
    0xEB, 0xF1, 0x76, 0xC4, 0x23, 0x01, 0xA5, 0x45, 0x96, 0x41, 0xB4, 0xE7, 0xDD, 0xE5, 0xBF, 0xE3,
]);
/// A manifest of all services, 63849ebb-3d92-4670-a1ff-58f9c94b87bb.
const ALL_SERVICES: MixedGuid = MixedGuid::from_bytes([
    0xBB, 0x9E, 0x84, 0x63, 0x92, 0x3D, 0x70, 0x46, 0xA1, 0xFF, 0x58, 0xF9, 0xC9, 0x4B, 0x87, 0xBB,
]);
/// A TPMT_PUBLIC of the EK template.
pub const VTPM_MANIFEST: usize = 314;
/// Most services in a manifest: Coconut has two.
const MAX_SERVICES: u32 = 16;
/// Largest manifest: what the wire carries of it (docs/protocol.md, "Limits").
pub const MAX_MANIFEST: usize = crate::wire::limits::MAX_SVSM_MANIFEST;

/// The EK template in front of the modulus (TCG EK Credential Profile, L-1): RSA, SHA-256, fixedTPM | fixedParent |
/// sensitiveDataOrigin | adminWithPolicy | restricted | decrypt, PolicySecret(endorsement), AES-128-CFB, no scheme, 2048
/// bit, default exponent.
const EK_HEAD: [u8; VTPM_MANIFEST - 256] = [
    0x00, 0x01, 0x00, 0x0B, 0x00, 0x03, 0x00, 0xB2, 0x00, 0x20, 0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xB3, 0xF8, 0x1A,
    0x90, 0xCC, 0x8D, 0x46, 0xA5, 0xD7, 0x24, 0xFD, 0x52, 0xD7, 0x6E, 0x06, 0x52, 0x0B, 0x64, 0xF2, 0xA1, 0xDA, 0x1B,
    0x33, 0x14, 0x69, 0xAA, 0x00, 0x06, 0x00, 0x80, 0x00, 0x43, 0x00, 0x10, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01,
    0x00,
];

/// What the SVSM vouches for: the EK of its vTPM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    ek: Public,
    all_services: bool,
}

/// Why bytes are no manifest with a vTPM.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    #[error("the manifest has {seen} bytes, at most {MAX_MANIFEST} are read")]
    TooLong { seen: usize },
    #[error("the manifest has {seen} bytes; that of the vTPM service has {VTPM_MANIFEST}")]
    Length { seen: usize },
    #[error("byte {at} of the vTPM's manifest is {seen:#04x}, the EK template has {wanted:#04x}")]
    Template { at: usize, seen: u8, wanted: u8 },
    #[error("the EK is refused: {0}")]
    Key(#[from] PublicError),
    #[error("the manifest of all services does not parse: {0}")]
    Read(#[from] ReadError),
    #[error("the manifest of all services says {seen} bytes, and has {wanted}")]
    TotalLength { seen: u32, wanted: usize },
    #[error("{seen} services are listed, at most {MAX_SERVICES} are read")]
    TooMany { seen: u32 },
    #[error("service {guid} is listed twice")]
    Twice { guid: MixedGuid },
    #[error("the bytes of service {guid} do not lie where those of the one before end")]
    Layout { guid: MixedGuid },
    #[error("the manifest lists no vTPM service")]
    NoVtpm,
}

impl Manifest {
    /// A manifest of all services by its GUID, and otherwise that of the vTPM service alone.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_MANIFEST {
            return Err(ManifestError::TooLong { seen: bytes.len() });
        }
        match bytes.strip_prefix(ALL_SERVICES.as_bytes()) {
            Some(_) => Ok(Manifest { ek: endorsement_key(vtpm_of_all(bytes)?)?, all_services: true }),
            None => Ok(Manifest { ek: endorsement_key(bytes)?, all_services: false }),
        }
    }

    /// The key to hide a secret for. No other EK is, whatever is sent beside the manifest.
    pub fn ek(&self) -> &Public {
        &self.ek
    }
    /// Whether the services' GUIDs are hashed with their bytes.
    pub fn names_services(&self) -> bool {
        self.all_services
    }
}

/// `REPORT_DATA = SHA-512(nonce ‖ manifest)`.
pub fn report_data(nonce: &Nonce, manifest: &[u8]) -> Sha512Digest {
    sha512(&[nonce.as_bytes(), manifest])
}

fn endorsement_key(bytes: &[u8]) -> Result<Public, ManifestError> {
    if bytes.len() != VTPM_MANIFEST {
        return Err(ManifestError::Length { seen: bytes.len() });
    }
    let differs = bytes.iter().zip(&EK_HEAD).enumerate().find(|(_, (seen, wanted))| seen != wanted);
    if let Some((at, (seen, wanted))) = differs {
        return Err(ManifestError::Template { at, seen: *seen, wanted: *wanted });
    }
    Ok(Public::parse(bytes)?)
}

/// GUID ‖ u32 total ‖ u32 count ‖ count × {GUID, u32 offset, u32 length} ‖ data, without gaps and without anything over.
fn vtpm_of_all(bytes: &[u8]) -> Result<&[u8], ManifestError> {
    let mut r = Reader::new(bytes);
    r.take(MixedGuid::LEN)?;
    let total = r.u32_le()?;
    if usize::try_from(total) != Ok(bytes.len()) {
        return Err(ManifestError::TotalLength { seen: total, wanted: bytes.len() });
    }
    let count = r.u32_le()?;
    if count > MAX_SERVICES {
        return Err(ManifestError::TooMany { seen: count });
    }
    let mut services = vec![];
    for _ in 0..count {
        services.push((MixedGuid::from_bytes(r.array()?), r.u32_le()?, r.u32_le()?));
    }
    let (mut vtpm, mut seen) = (None, std::collections::BTreeSet::new());
    for (guid, offset, length) in services {
        if !seen.insert(guid) {
            return Err(ManifestError::Twice { guid });
        }
        // Coconut lays the services' bytes one after the other in the order of the list, and counts offsets from the
        // manifest's first byte (kernel/src/protocols/attest.rs, GuidTable). Anything else is refused.
        if usize::try_from(offset) != Ok(r.offset()) {
            return Err(ManifestError::Layout { guid });
        }
        let contents = r.take(usize::try_from(length).map_err(|_| ManifestError::Layout { guid })?)?;
        if guid == VTPM_SERVICE {
            vtpm = Some(contents);
        }
    }
    r.finish()?;
    vtpm.ok_or(ManifestError::NoVtpm)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modulus() -> Vec<u8> {
        [vec![0xC1], vec![5; 255]].concat()
    }

    fn single() -> Vec<u8> {
        [&EK_HEAD[..], &modulus()].concat()
    }

    fn all(services: &[(MixedGuid, Vec<u8>)]) -> Vec<u8> {
        let header = 24 + 24 * services.len();
        let data: usize = services.iter().map(|(_, bytes)| bytes.len()).sum();
        let u32_le = |n: usize| u32::try_from(n).unwrap().to_le_bytes();
        let mut out = [&ALL_SERVICES.as_bytes()[..], &u32_le(header + data), &u32_le(services.len())].concat();
        let mut at = header;
        for (guid, bytes) in services {
            out.extend([&guid.as_bytes()[..], &u32_le(at), &u32_le(bytes.len())].concat());
            at += bytes.len();
        }
        services.iter().for_each(|(_, bytes)| out.extend(bytes));
        out
    }

    const OTHER: MixedGuid = MixedGuid::from_bytes([9; 16]);

    #[test]
    fn the_manifest_of_one_service_is_the_ek() {
        let manifest = Manifest::parse(&single()).unwrap();
        assert_eq!(manifest.ek().as_bytes(), single());
        assert!(!manifest.names_services());
    }

    #[test]
    fn plat_n54_every_fixed_byte_is_fixed_and_no_byte_may_be_missing_or_over() {
        for at in 0..EK_HEAD.len() {
            let mut bytes = single();
            bytes[at] ^= 1;
            assert!(matches!(Manifest::parse(&bytes), Err(ManifestError::Template { at: seen, .. }) if seen == at));
        }
        assert_eq!(Manifest::parse(&single()[..313]), Err(ManifestError::Length { seen: 313 }));
        assert_eq!(Manifest::parse(&[&single()[..], &[0]].concat()), Err(ManifestError::Length { seen: 315 }));
        assert_eq!(Manifest::parse(&[1, 0, 0, 0]), Err(ManifestError::Length { seen: 4 }), "the MM service");
        let zero = [&EK_HEAD[..], &[0; 256]].concat();
        assert!(matches!(Manifest::parse(&zero), Err(ManifestError::Key(_))));
        assert_eq!(Manifest::parse(&[0; MAX_MANIFEST + 1]), Err(ManifestError::TooLong { seen: MAX_MANIFEST + 1 }));
    }

    #[test]
    fn the_manifest_of_all_services_is_read_by_its_guids() {
        let bytes = all(&[(OTHER, vec![1, 2, 3]), (VTPM_SERVICE, single())]);
        let manifest = Manifest::parse(&bytes).unwrap();
        assert!(manifest.names_services() && manifest.ek().as_bytes() == single());
        assert!((0..bytes.len()).all(|end| Manifest::parse(&bytes[..end]).is_err()));
        assert!(Manifest::parse(&[&bytes[..], &[0]].concat()).is_err());
    }

    #[test]
    fn plat_n54_a_manifest_of_all_services_has_one_reading() {
        let good = all(&[(OTHER, vec![1, 2, 3]), (VTPM_SERVICE, single())]);
        let with = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            Manifest::parse(&bytes).unwrap_err()
        };
        assert!(matches!(with(16, 0), ManifestError::TotalLength { .. }));
        assert_eq!(with(20, 17), ManifestError::TooMany { seen: 17 });
        assert_eq!(with(40, 0), ManifestError::Layout { guid: OTHER });
        assert!(matches!(with(44, 2), ManifestError::Layout { guid: VTPM_SERVICE }));
        assert_eq!(with(48, 0), ManifestError::NoVtpm);
        let twice = all(&[(VTPM_SERVICE, single()), (VTPM_SERVICE, single())]);
        assert_eq!(Manifest::parse(&twice), Err(ManifestError::Twice { guid: VTPM_SERVICE }));
        let other_key = all(&[(VTPM_SERVICE, single()[..313].to_vec())]);
        assert_eq!(Manifest::parse(&other_key), Err(ManifestError::Length { seen: 313 }));
    }

    #[test]
    fn guids_are_in_mixed_byte_order() {
        assert_eq!(VTPM_SERVICE.to_string(), "ebf176c42301a5459641b4e7dde5bfe3");
    }
}
