//! A public key out of a certificate or a TPM: RSA, or a point on P-256 or P-384, in the form that [`formats::crypto`] takes.
//!
//! RSA keys are written again as canonical PKCS#1, so that two of them are equal exactly where modulus and exponent are.

use super::der::{self, BIT_STRING, INTEGER, OBJECT_IDENTIFIER, SEQUENCE};
use formats::bytes::Reader;

const RSA_ENCRYPTION: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x01];
const EC_PUBLIC_KEY: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01];
const PRIME256V1: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07];
const SECP384R1: &[u8] = &[0x2B, 0x81, 0x04, 0x00, 0x22];

/// Bits of an RSA key. Below is weak; above only costs time (AMD's and Microsoft's CAs: 4096).
pub(super) const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// A public key of a kind that is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicKey {
    /// PKCS#1 `RSAPublicKey` of 2048 to 4096 bits.
    Rsa(Vec<u8>),
    /// An uncompressed point.
    P256([u8; 65]),
    /// An uncompressed point.
    P384([u8; 97]),
}

/// The key is none of those.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key is neither RSA of {} to {} bits nor an uncompressed point on P-256 or P-384", RSA_BITS.start(), RSA_BITS.end())]
pub struct PublicKeyError;

impl PublicKey {
    /// From modulus and exponent, big-endian.
    pub fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, PublicKeyError> {
        let body = [der::unsigned_integer(modulus), der::unsigned_integer(exponent)].concat();
        Self::rsa_pkcs1(&der::encoded(SEQUENCE, &body))
    }

    /// From PKCS#1.
    pub fn rsa_pkcs1(pkcs1: &[u8]) -> Result<Self, PublicKeyError> {
        let (modulus, exponent) = rsa_parts(pkcs1).ok_or(PublicKeyError)?;
        let bits = 8 * modulus.len() - modulus.first().map_or(0, |first| first.leading_zeros() as usize);
        if !RSA_BITS.contains(&bits) || exponent.is_empty() {
            return Err(PublicKeyError);
        }
        let body = [der::unsigned_integer(modulus), der::unsigned_integer(exponent)].concat();
        Ok(PublicKey::Rsa(der::encoded(SEQUENCE, &body)))
    }

    /// From an uncompressed point of 65 or 97 bytes.
    pub fn point(bytes: &[u8]) -> Result<Self, PublicKeyError> {
        match (bytes.first(), bytes.len()) {
            (Some(0x04), 65) => bytes.try_into().map(PublicKey::P256).map_err(|_| PublicKeyError),
            (Some(0x04), 97) => bytes.try_into().map(PublicKey::P384).map_err(|_| PublicKeyError),
            _ => Err(PublicKeyError),
        }
    }

    /// From a DER `SubjectPublicKeyInfo`.
    pub fn from_spki(spki: &[u8]) -> Result<Self, PublicKeyError> {
        Self::read_spki(spki).ok_or(PublicKeyError)
    }

    fn read_spki(spki: &[u8]) -> Option<Self> {
        let mut parts = Reader::new(der::only(spki, SEQUENCE).ok()?);
        let mut algorithm = Reader::new(der::element(&mut parts, SEQUENCE).ok()?.contents);
        let mut bits = Reader::new(der::element(&mut parts, BIT_STRING).ok()?.contents);
        parts.finish().ok()?;
        if bits.u8().ok()? != 0 {
            return None;
        }
        let key = bits.remaining();
        let kind = der::element(&mut algorithm, OBJECT_IDENTIFIER).ok()?.contents;
        if kind == RSA_ENCRYPTION {
            return Self::rsa_pkcs1(key).ok();
        }
        let curve = der::element(&mut algorithm, OBJECT_IDENTIFIER).ok()?.contents;
        match Self::point(key).ok()? {
            point @ PublicKey::P256(_) if kind == EC_PUBLIC_KEY && curve == PRIME256V1 => Some(point),
            point @ PublicKey::P384(_) if kind == EC_PUBLIC_KEY && curve == SECP384R1 => Some(point),
            _ => None,
        }
    }

    /// PKCS#1 or the point.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            PublicKey::Rsa(pkcs1) => pkcs1,
            PublicKey::P256(point) => point,
            PublicKey::P384(point) => point,
        }
    }

    /// Modulus and exponent without leading zeros, of an RSA key.
    pub fn rsa_numbers(&self) -> Option<(&[u8], &[u8])> {
        match self {
            PublicKey::Rsa(pkcs1) => rsa_parts(pkcs1),
            PublicKey::P256(_) | PublicKey::P384(_) => None,
        }
    }
}

/// For people: the kind, and the size of an RSA key.
impl std::fmt::Display for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PublicKey::Rsa(pkcs1) => {
                let bytes = rsa_parts(pkcs1).map_or(0, |(modulus, _)| modulus.len());
                write!(f, "RSA of {} bits", 8 * bytes)
            }
            PublicKey::P256(_) => f.write_str("P-256"),
            PublicKey::P384(_) => f.write_str("P-384"),
        }
    }
}

fn rsa_parts(pkcs1: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut parts = Reader::new(der::only(pkcs1, SEQUENCE).ok()?);
    let modulus = der::element(&mut parts, INTEGER).ok()?.contents;
    let exponent = der::element(&mut parts, INTEGER).ok()?.contents;
    parts.finish().ok()?;
    // A first bit of 1 would make the number negative.
    let positive = |number: &[u8]| number.first().is_some_and(|first| *first < 0x80);
    (positive(modulus) && positive(exponent)).then(|| (der::unsigned(modulus), der::unsigned(exponent)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_keys_are_equal_however_they_were_written() {
        let mut modulus = vec![0xC1; 256];
        let key = PublicKey::rsa(&modulus, &[1, 0, 1]).unwrap();
        assert_eq!(PublicKey::rsa(&[&[0, 0][..], &modulus].concat(), &[0, 1, 0, 1]), Ok(key.clone()));
        assert_eq!(key.rsa_numbers(), Some((&modulus[..], &[1, 0, 1][..])));
        assert_eq!(key.to_string(), "RSA of 2048 bits");
        modulus[0] = 0x41;
        assert_eq!(PublicKey::rsa(&modulus, &[1, 0, 1]), Err(PublicKeyError), "2047 bits");
        assert_eq!(PublicKey::rsa(&[0xFF; 513], &[1, 0, 1]), Err(PublicKeyError), "4104 bits");
        assert_eq!(PublicKey::rsa(&[0; 256], &[1, 0, 1]), Err(PublicKeyError), "no modulus");
        assert_eq!(PublicKey::rsa(&[0xC1; 256], &[0]), Err(PublicKeyError), "no exponent");
    }

    #[test]
    fn points_are_uncompressed_and_of_their_curve() {
        let mut point = [7; 97];
        point[0] = 4;
        assert!(PublicKey::point(&point).is_ok());
        assert!(PublicKey::point(&point[..65]).is_ok());
        assert_eq!(PublicKey::point(&point[..96]), Err(PublicKeyError));
        assert_eq!(PublicKey::point(&[&[2][..], &[7; 64]].concat()), Err(PublicKeyError));
        let spki = |curve: &[u8], point: &[u8]| {
            let ids = [der::encoded(6, EC_PUBLIC_KEY), der::encoded(6, curve)].concat();
            let body = [der::encoded(SEQUENCE, &ids), der::encoded(BIT_STRING, &[&[0], point].concat())].concat();
            PublicKey::from_spki(&der::encoded(SEQUENCE, &body))
        };
        assert!(spki(SECP384R1, &point).is_ok());
        assert!(spki(PRIME256V1, &point[..65]).is_ok());
        assert_eq!(spki(PRIME256V1, &point), Err(PublicKeyError), "a point of another curve");
        assert_eq!(PublicKey::from_spki(&[]), Err(PublicKeyError));
    }
}
