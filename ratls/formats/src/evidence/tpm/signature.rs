//! TPMT_SIGNATURE (Part 2, 11.3.4), and the bare forms in which tools store the same signature.

use super::public::Key;
use super::scheme::{ECDSA, RSAPSS, RSASSA};
use super::{Hash, HashError, MAX_STRUCTURE, StructureError, sized};
use crate::bytes::{ReadError, Reader};

/// Largest RSA signature (4096 bit), and largest coordinate (P-521, which is then refused by name and not by length).
const MAX_RSA: usize = 512;
const MAX_COORDINATE: usize = 66;

/// A signature with the scheme that it says it was made by.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Signature {
    /// RSASSA-PKCS1-v1_5.
    RsaSsa {
        hash: Hash,
        signature: Vec<u8>,
    },
    RsaPss {
        hash: Hash,
        signature: Vec<u8>,
    },
    /// Two integers, without leading zeros or with.
    Ecdsa {
        hash: Hash,
        r: Vec<u8>,
        s: Vec<u8>,
    },
}

/// Why bytes are no signature that is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    #[error("TPMT_SIGNATURE has {seen} bytes, at most {MAX_STRUCTURE} are read")]
    TooLong { seen: usize },
    #[error("TPMT_SIGNATURE does not parse: {0}")]
    Structure(#[from] StructureError),
    #[error("the signature's scheme is {0:#06x}, wanted RSASSA, RSAPSS or ECDSA")]
    Scheme(u16),
    #[error("the signature's scheme has {0}")]
    Hash(#[from] HashError),
}

impl From<ReadError> for SignatureError {
    fn from(error: ReadError) -> Self {
        SignatureError::Structure(error.into())
    }
}

impl Signature {
    /// The form of the wire: TPMT_SIGNATURE and nothing else.
    pub fn parse(bytes: &[u8]) -> Result<Self, SignatureError> {
        if bytes.len() > MAX_STRUCTURE {
            return Err(SignatureError::TooLong { seen: bytes.len() });
        }
        let mut r = Reader::new(bytes);
        let scheme = r.u16_be()?;
        if ![RSASSA, RSAPSS, ECDSA].contains(&scheme) {
            return Err(SignatureError::Scheme(scheme));
        }
        let hash = Hash::from_algorithm(r.u16_be()?)?;
        let parsed = match scheme {
            ECDSA => Signature::Ecdsa {
                hash,
                r: sized(&mut r, "r", MAX_COORDINATE)?.to_vec(),
                s: sized(&mut r, "s", MAX_COORDINATE)?.to_vec(),
            },
            RSAPSS => Signature::RsaPss { hash, signature: sized(&mut r, "the RSA signature", MAX_RSA)?.to_vec() },
            _ => Signature::RsaSsa { hash, signature: sized(&mut r, "the RSA signature", MAX_RSA)?.to_vec() },
        };
        r.finish()?;
        Ok(parsed)
    }

    /// A file's form: TPMT_SIGNATURE, or only the signature that a key of this kind makes: RSASSA with SHA-256 in the modulus'
    /// length, or ECDSA with SHA-256 in DER. Nothing is lost by it: whichever it is, it must verify under the key.
    pub fn parse_file(bytes: &[u8], key: &Key) -> Result<Self, SignatureError> {
        match key {
            Key::Rsa { modulus } if modulus.len() == bytes.len() => {
                Ok(Signature::RsaSsa { hash: Hash::Sha256, signature: bytes.to_vec() })
            }
            Key::Ecc { .. } if bytes.first() == Some(&0x30) => match ecdsa_der(bytes) {
                Some((r, s)) => Ok(Signature::Ecdsa { hash: Hash::Sha256, r, s }),
                None => Self::parse(bytes),
            },
            _ => Self::parse(bytes),
        }
    }

    pub fn hash(&self) -> Hash {
        match self {
            Signature::RsaSsa { hash, .. } | Signature::RsaPss { hash, .. } | Signature::Ecdsa { hash, .. } => *hash,
        }
    }

    /// TPM_ALG_ID of the scheme.
    pub fn scheme(&self) -> u16 {
        match self {
            Signature::RsaSsa { .. } => RSASSA,
            Signature::RsaPss { .. } => RSAPSS,
            Signature::Ecdsa { .. } => ECDSA,
        }
    }
}

/// SEQUENCE of two INTEGERs below 128 bytes, as any P-256 signature is.
fn ecdsa_der(bytes: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut outer = Reader::new(bytes);
    let content = short(&mut outer, 0x30)?;
    outer.finish().ok()?;
    let mut inner = Reader::new(content);
    let (r, s) = (short(&mut inner, 0x02)?, short(&mut inner, 0x02)?);
    inner.finish().ok()?;
    Some((r.to_vec(), s.to_vec()))
}

fn short<'a>(reader: &mut Reader<'a>, tag: u8) -> Option<&'a [u8]> {
    (reader.u8().ok()? == tag).then_some(())?;
    let length = reader.u8().ok().filter(|length| *length < 0x80)?;
    reader.take(usize::from(length)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scheme_is_read_and_nothing_shorter_or_longer() {
        let rsa = [&[0, 0x14, 0, 0x0B, 0, 3][..], &[1, 2, 3]].concat();
        assert_eq!(Signature::parse(&rsa), Ok(Signature::RsaSsa { hash: Hash::Sha256, signature: vec![1, 2, 3] }));
        let pss = [&[0, 0x16, 0, 0x0D, 0, 1][..], &[1]].concat();
        assert_eq!(Signature::parse(&pss), Ok(Signature::RsaPss { hash: Hash::Sha512, signature: vec![1] }));
        let ecdsa = [0, 0x18, 0, 0x0C, 0, 1, 7, 0, 2, 8, 9];
        assert_eq!(Signature::parse(&ecdsa), Ok(Signature::Ecdsa { hash: Hash::Sha384, r: vec![7], s: vec![8, 9] }));
        for good in [&rsa[..], &pss, &ecdsa] {
            assert!((0..good.len()).all(|end| Signature::parse(&good[..end]).is_err()));
            assert!(Signature::parse(&[good, &[0]].concat()).is_err());
        }
    }

    #[test]
    fn sha_1_and_other_schemes_are_refused_by_name() {
        assert_eq!(Signature::parse(&[0, 0x14, 0, 4, 0, 0]), Err(SignatureError::Hash(HashError(4))));
        assert!(SignatureError::Hash(HashError(4)).to_string().contains("SHA-1"));
        for scheme in [0x05, 0x10, 0x1A, 0x1C] {
            assert_eq!(Signature::parse(&[0, scheme, 0, 0x0B]), Err(SignatureError::Scheme(scheme.into())));
        }
    }

    #[test]
    fn a_signature_above_the_largest_key_is_refused() {
        let long = [&[0, 0x14, 0, 0x0B, 2, 1][..], &[0; 513]].concat();
        assert!(matches!(
            Signature::parse(&long),
            Err(SignatureError::Structure(StructureError::TooLong { seen: 513, .. }))
        ));
    }
}
