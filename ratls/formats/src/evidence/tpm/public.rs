//! TPMT_PUBLIC (Part 2, 12.2.4): a key with everything that its name stands for.
//!
//! A name is the hash of the whole public area, attributes included. So whoever computes the name from an area that he has
//! checked himself, and hides a secret for that name, learns with the secret that a key with these attributes lives there.
//! The bytes are kept as received; hashes are over them.

use super::{Hash, HashError, MAX_STRUCTURE, StructureError, sized};
use crate::bytes::{ReadError, Reader};
use crate::crypto::sha256;
use crate::digest::Sha256Digest;

const RSA: u16 = 0x0001;
const ECC: u16 = 0x0023;
const NULL: u16 = 0x0010;
const NIST_P256: u16 = 0x0003;
const NIST_P384: u16 = 0x0004;
/// RSA schemes without a hash of their own (RSAES), and with one (RSASSA, RSAPSS, OAEP).
const RSAES: u16 = 0x0015;
const OAEP: u16 = 0x0017;
const ECDAA: u16 = 0x001A;
/// Largest authPolicy: SHA-512.
const MAX_POLICY: usize = 64;
/// Largest modulus that is looked at: 4096 bit (docs/protocol.md, "Limits").
const MAX_MODULUS: usize = 512;

/// TPMA_OBJECT (Part 2, 8.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes(pub u32);

impl Attributes {
    pub const FIXED_TPM: u32 = 1 << 1;
    pub const FIXED_PARENT: u32 = 1 << 4;
    pub const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
    pub const RESTRICTED: u32 = 1 << 16;
    pub const DECRYPT: u32 = 1 << 17;
    pub const SIGN: u32 = 1 << 18;

    /// What makes a signing key an attestation key: made in this TPM, never to leave it, and signing only what the TPM made.
    const OF_AK: [(u32, &'static str); 5] = [
        (Self::FIXED_TPM, "fixedTPM"),
        (Self::FIXED_PARENT, "fixedParent"),
        (Self::SENSITIVE_DATA_ORIGIN, "sensitiveDataOrigin"),
        (Self::RESTRICTED, "restricted"),
        (Self::SIGN, "sign"),
    ];

    /// The first attribute that an attestation key has or lacks and this one does not.
    pub fn unfit_for_ak(self) -> Option<String> {
        let lacks = Self::OF_AK.into_iter().find(|(bit, _)| self.0 & bit == 0);
        match lacks {
            Some((_, name)) => Some(format!("lacks {name}")),
            None if self.0 & Self::DECRYPT != 0 => Some("also decrypts".to_owned()),
            None => None,
        }
    }
}

/// The key itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// Modulus, big-endian as received. The exponent is 65,537; areas with another are refused.
    Rsa { modulus: Vec<u8> },
    /// A point, coordinates in the curve's length.
    Ecc { curve: Curve, x: Vec<u8>, y: Vec<u8> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    P256,
    P384,
}

impl Curve {
    /// Bytes of a coordinate.
    pub const fn size(self) -> usize {
        match self {
            Curve::P256 => 32,
            Curve::P384 => 48,
        }
    }
}

impl Key {
    /// The subjectPublicKey of a certificate for this key: PKCS#1 `RSAPublicKey`, or the uncompressed point.
    pub fn subject_public_key(&self) -> Vec<u8> {
        match self {
            Key::Rsa { modulus } => pkcs1(modulus),
            Key::Ecc { x, y, .. } => [&[4][..], x, y].concat(),
        }
    }
}

/// How a key signs: TPM_ALG_ID of the scheme, and its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SigningScheme {
    pub algorithm: u16,
    pub hash: Hash,
}

/// `nameAlg ‖ H(TPMT_PUBLIC)`, or the qualified name of a key under a hierarchy.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Vec<u8>);

impl Name {
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Name({self})")
    }
}

/// Where a primary key stands (Part 2, 7.4). Keys of the null hierarchy are none: they prove nothing after a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hierarchy {
    Owner,
    Endorsement,
    Platform,
}

impl Hierarchy {
    pub const ALL: [Hierarchy; 3] = [Hierarchy::Endorsement, Hierarchy::Owner, Hierarchy::Platform];

    pub const fn handle(self) -> u32 {
        match self {
            Hierarchy::Owner => 0x4000_0001,
            Hierarchy::Endorsement => 0x4000_000B,
            Hierarchy::Platform => 0x4000_000C,
        }
    }
}

/// A public area, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Public {
    bytes: Vec<u8>,
    name_hash: Hash,
    attributes: Attributes,
    scheme: Option<SigningScheme>,
    key: Key,
}

/// Why bytes are no public area of a key that is of use here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublicError {
    #[error("TPMT_PUBLIC has {seen} bytes, at most {MAX_STRUCTURE} are read")]
    TooLong { seen: usize },
    #[error("TPMT_PUBLIC does not parse: {0}")]
    Structure(#[from] StructureError),
    #[error("the key is of type {0:#06x}, wanted RSA or ECC")]
    Type(u16),
    #[error("the key's name is made with {0}")]
    NameHash(HashError),
    #[error("the key signs with {0}")]
    SchemeHash(HashError),
    #[error("the key's scheme {0:#06x} is not known here")]
    Scheme(u16),
    #[error("an RSA key of {seen} bit, wanted 2048, 3072 or 4096")]
    Bits { seen: u16 },
    #[error("an RSA exponent of {seen}, wanted 65537")]
    Exponent { seen: u32 },
    #[error("the modulus does not have the {bits} bit that the area says")]
    Modulus { bits: u16 },
    #[error("curve {0:#06x}, wanted NIST P-256 or P-384")]
    Curve(u16),
    #[error("a coordinate has {seen} bytes, wanted {wanted}")]
    Coordinate { seen: usize, wanted: usize },
    #[error("the key derives with scheme {0:#06x}, wanted none")]
    Kdf(u16),
}

impl From<ReadError> for PublicError {
    fn from(error: ReadError) -> Self {
        PublicError::Structure(error.into())
    }
}

impl Public {
    pub fn parse(bytes: &[u8]) -> Result<Self, PublicError> {
        if bytes.len() > MAX_STRUCTURE {
            return Err(PublicError::TooLong { seen: bytes.len() });
        }
        let mut r = Reader::new(bytes);
        let kind = r.u16_be()?;
        if kind != RSA && kind != ECC {
            return Err(PublicError::Type(kind));
        }
        let name_hash = Hash::from_algorithm(r.u16_be()?).map_err(PublicError::NameHash)?;
        let attributes = Attributes(r.u32_be()?);
        sized(&mut r, "authPolicy", MAX_POLICY)?;
        symmetric(&mut r)?;
        let scheme = scheme(&mut r)?;
        let key = if kind == RSA { rsa(&mut r)? } else { ecc(&mut r)? };
        r.finish()?;
        Ok(Public { bytes: bytes.to_vec(), name_hash, attributes, scheme, key })
    }

    /// As received.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
    pub fn attributes(&self) -> Attributes {
        self.attributes
    }
    /// `None` where the area leaves it to the caller, as for keys that decrypt.
    pub fn scheme(&self) -> Option<SigningScheme> {
        self.scheme
    }
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// What a statement names its AK by.
    pub fn digest(&self) -> Sha256Digest {
        sha256(&[&self.bytes])
    }

    pub fn name(&self) -> Name {
        self.named(&[&self.bytes])
    }

    /// The name by which a quote calls its signer, where that is a primary key of this hierarchy (Part 1, 16.2).
    pub fn qualified_name(&self, hierarchy: Hierarchy) -> Name {
        self.named(&[&hierarchy.handle().to_be_bytes(), self.name().as_bytes()])
    }

    fn named(&self, parts: &[&[u8]]) -> Name {
        Name([&self.name_hash.algorithm().to_be_bytes()[..], &self.name_hash.digest(parts)].concat())
    }

    /// Azure's AK, from the modulus in HCLAkPub: RSASSA with SHA-256, userWithAuth and noDA.
    pub fn azure_ak(modulus: &[u8]) -> Result<Self, PublicError> {
        Self::parse(&rsa_template(0x0005_0472, modulus)?)
    }

    /// GCE's AK with an RSA key, and what go-tpm-tools makes elsewhere.
    pub fn gce_rsa_ak(modulus: &[u8]) -> Result<Self, PublicError> {
        Self::parse(&rsa_template(0x0005_0072, modulus)?)
    }

    /// GCE's AK on P-256: ECDSA with SHA-256.
    pub fn gce_ecc_ak(x: &[u8; 32], y: &[u8; 32]) -> Result<Self, PublicError> {
        let head = [0x00, 0x23, 0x00, 0x0B, 0x00, 0x05, 0x00, 0x72, 0x00, 0x00, 0x00, 0x10, 0x00, 0x18, 0x00, 0x0B];
        Self::parse(&[&head[..], &[0x00, 0x03, 0x00, 0x10, 0x00, 0x20], x, &[0x00, 0x20], y].concat())
    }
}

fn rsa_template(attributes: u32, modulus: &[u8]) -> Result<Vec<u8>, PublicError> {
    let too_long = PublicError::TooLong { seen: modulus.len() };
    let length = u16::try_from(modulus.len()).map_err(|_| too_long)?;
    let bits = length.checked_mul(8).ok_or(too_long)?;
    Ok([
        &[0x00, 0x01, 0x00, 0x0B][..],
        &attributes.to_be_bytes(),
        &[0x00, 0x00, 0x00, 0x10, 0x00, 0x14, 0x00, 0x0B],
        &bits.to_be_bytes(),
        &[0, 0, 0, 0],
        &length.to_be_bytes(),
        modulus,
    ]
    .concat())
}

/// TPMT_SYM_DEF_OBJECT: present in keys that store others.
fn symmetric(r: &mut Reader<'_>) -> Result<(), PublicError> {
    if r.u16_be()? != NULL {
        r.take(4)?; // key bits and mode
    }
    Ok(())
}

fn scheme(r: &mut Reader<'_>) -> Result<Option<SigningScheme>, PublicError> {
    use super::scheme::{ECDSA, RSAPSS, RSASSA};
    match r.u16_be()? {
        NULL | RSAES => Ok(None),
        algorithm @ (RSASSA | RSAPSS | ECDSA) => {
            let hash = Hash::from_algorithm(r.u16_be()?).map_err(PublicError::SchemeHash)?;
            Ok(Some(SigningScheme { algorithm, hash }))
        }
        OAEP => r.u16_be().map(|_| None).map_err(Into::into),
        ECDAA => r.u32_be().map(|_| None).map_err(Into::into),
        other => Err(PublicError::Scheme(other)),
    }
}

fn rsa(r: &mut Reader<'_>) -> Result<Key, PublicError> {
    let bits = r.u16_be()?;
    if ![2048, 3072, 4096].contains(&bits) {
        return Err(PublicError::Bits { seen: bits });
    }
    match r.u32_be()? {
        // 0 stands for the default, 65,537 (Part 2, 12.2.3.5).
        0 | 65_537 => {}
        seen => return Err(PublicError::Exponent { seen }),
    }
    let modulus = sized(r, "the modulus", MAX_MODULUS)?;
    // In a modulus of exactly so many bit the highest is set; a zero one cannot be.
    if modulus.len() != usize::from(bits / 8) || modulus.first().is_none_or(|first| first & 0x80 == 0) {
        return Err(PublicError::Modulus { bits });
    }
    Ok(Key::Rsa { modulus: modulus.to_vec() })
}

fn ecc(r: &mut Reader<'_>) -> Result<Key, PublicError> {
    let curve = match r.u16_be()? {
        NIST_P256 => Curve::P256,
        NIST_P384 => Curve::P384,
        other => return Err(PublicError::Curve(other)),
    };
    match r.u16_be()? {
        NULL => {}
        other => return Err(PublicError::Kdf(other)),
    }
    let coordinate = |bytes: &[u8]| match padded(bytes, curve.size()) {
        Some(fixed) => Ok(fixed),
        None => Err(PublicError::Coordinate { seen: bytes.len(), wanted: curve.size() }),
    };
    let x = coordinate(sized(r, "x", MAX_POLICY)?)?;
    let y = coordinate(sized(r, "y", MAX_POLICY)?)?;
    Ok(Key::Ecc { curve, x, y })
}

/// The integer in exactly `size` bytes: TPMs drop leading zeros or keep them, DER adds one.
pub fn padded(bytes: &[u8], size: usize) -> Option<Vec<u8>> {
    let digits = &bytes[bytes.iter().take_while(|b| **b == 0).count()..];
    let zeros = size.checked_sub(digits.len())?;
    Some([&vec![0; zeros][..], digits].concat())
}

/// PKCS#1 `RSAPublicKey` with e = 65,537.
fn pkcs1(modulus: &[u8]) -> Vec<u8> {
    const E: [u8; 5] = [0x02, 0x03, 0x01, 0x00, 0x01];
    let modulus = der(0x02, &[&[0][..], modulus].concat());
    der(0x30, &[&modulus[..], &E].concat())
}

fn der(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = u16::try_from(contents.len()).expect("a modulus has at most 512 bytes").to_be_bytes();
    let length: &[u8] = match length {
        [0, low @ 0..=0x7F] => &[low],
        [0, low] => &[0x81, low],
        [high, low] => &[0x82, high, low],
    };
    [&[tag], length, contents].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modulus() -> Vec<u8> {
        [vec![0xC0], vec![7; 255]].concat()
    }

    #[test]
    fn templates_are_what_a_tpm_names() {
        let public = Public::azure_ak(&modulus()).unwrap();
        assert_eq!(public.as_bytes()[..10], hex::decode("0001000b000504720000").unwrap()[..]);
        assert_eq!(public.as_bytes().len(), 280);
        assert_eq!(public.scheme(), Some(SigningScheme { algorithm: 0x14, hash: Hash::Sha256 }));
        assert_eq!(public.attributes().unfit_for_ak(), None);
        let name = public.name();
        assert_eq!(name.as_bytes()[..2], [0, 0x0B]);
        assert_eq!(&name.as_bytes()[2..], public.digest().as_bytes());
        let ecc = Public::gce_ecc_ak(&[1; 32], &[2; 32]).unwrap();
        assert_eq!(ecc.key(), &Key::Ecc { curve: Curve::P256, x: vec![1; 32], y: vec![2; 32] });
        assert_eq!(ecc.key().subject_public_key(), [vec![4], vec![1; 32], vec![2; 32]].concat());
        let of = |hierarchy| ecc.qualified_name(hierarchy);
        assert!(of(Hierarchy::Owner) != of(Hierarchy::Endorsement) && of(Hierarchy::Owner) != of(Hierarchy::Platform));
    }

    #[test]
    fn an_area_is_refused_shorter_longer_and_larger() {
        for good in [Public::azure_ak(&modulus()).unwrap(), Public::gce_ecc_ak(&[1; 32], &[2; 32]).unwrap()] {
            let good = good.as_bytes();
            assert!((0..good.len()).all(|end| Public::parse(&good[..end]).is_err()));
            assert!(Public::parse(&[good, &[0]].concat()).is_err());
        }
        assert_eq!(Public::parse(&[0; 1025]), Err(PublicError::TooLong { seen: 1025 }));
    }

    #[test]
    fn proto_d8_keys_out_of_range_are_refused() {
        let good = Public::azure_ak(&modulus()).unwrap();
        let with = |at: usize, bytes: &[u8]| {
            let mut area = good.as_bytes().to_vec();
            area[at..at + bytes.len()].copy_from_slice(bytes);
            Public::parse(&area).unwrap_err()
        };
        assert_eq!(with(0, &[0, 8]), PublicError::Type(8));
        assert_eq!(with(2, &[0, 4]), PublicError::NameHash(HashError(4)));
        assert_eq!(with(12, &[0, 0x1B]), PublicError::Scheme(0x1B));
        assert_eq!(with(14, &[0, 4]), PublicError::SchemeHash(HashError(4)));
        assert_eq!(with(16, &[0x40, 0]), PublicError::Bits { seen: 16384 });
        assert_eq!(with(16, &[4, 0]), PublicError::Bits { seen: 1024 });
        assert_eq!(with(16, &[0x0C, 0]), PublicError::Modulus { bits: 3072 });
        assert_eq!(with(18, &[0, 0, 0, 3]), PublicError::Exponent { seen: 3 });
        assert_eq!(with(24, &[0x40]), PublicError::Modulus { bits: 2048 });
        let zero = Public::azure_ak(&[0; 256]);
        assert_eq!(zero, Err(PublicError::Modulus { bits: 2048 }));
        let ecc = Public::gce_ecc_ak(&[1; 32], &[2; 32]).unwrap();
        let mut area = ecc.as_bytes().to_vec();
        area[17] = 5;
        assert_eq!(Public::parse(&area), Err(PublicError::Curve(5)));
    }

    #[test]
    fn attributes_that_unmake_an_ak_are_named() {
        let good = 0x0005_0072;
        assert_eq!(Attributes(good).unfit_for_ak(), None);
        for (bit, name) in Attributes::OF_AK {
            assert_eq!(Attributes(good & !bit).unfit_for_ak(), Some(format!("lacks {name}")));
        }
        assert_eq!(Attributes(good | Attributes::DECRYPT).unfit_for_ak(), Some("also decrypts".to_owned()));
    }
}
