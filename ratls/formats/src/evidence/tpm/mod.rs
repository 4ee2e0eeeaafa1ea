//! Structures of a TPM 2.0 (TCG TPM 2.0 Library, Part 2, revision 1.59): bytes to typed claims.
//!
//! ```text
//! attest     TPMS_ATTEST of a quote: what was signed
//! signature  TPMT_SIGNATURE, and the bare forms that some tools write
//! public     TPMT_PUBLIC: algorithm, attributes, key, name; the clouds' fixed templates
//! pcr        registers and their values
//! ```
//!
//! Everything is big-endian. Whether a quote is good is the question of `verify::quote`.

pub mod attest;
pub mod pcr;
pub mod public;
mod scheme;
pub mod signature;

pub use attest::{AttestError, Clock, Quoted};
#[cfg(feature = "test-support")]
#[doc(hidden)]
pub use pcr::hashed;
pub use pcr::{Bank, PcrValue, PcrValues};
pub use public::{Attributes, Hierarchy, Key, Name, Public, PublicError};
pub use signature::{Signature, SignatureError};

/// Largest TPMS_ATTEST, TPMT_SIGNATURE and TPMT_PUBLIC; an RSA-4096 signature has 518 bytes.
pub const MAX_STRUCTURE: usize = crate::wire::limits::MAX_TPM_STRUCTURE;
/// Registers of a bank (TCG PC Client Platform TPM Profile, 4.6).
pub const REGISTERS: usize = crate::wire::limits::MAX_PCRS;

/// A hash that a TPM signs or names with. SHA-1 is known by its number, so that it can be refused by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

/// A hash algorithm that is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("hash algorithm {}, wanted SHA-256, SHA-384 or SHA-512", if *.0 == SHA1 { "SHA-1".to_owned() } else { format!("{:#06x}", .0) })]
pub struct HashError(pub u16);

/// TPM_ALG_ID of SHA-1 (TCG Algorithm Registry).
pub(crate) const SHA1: u16 = 0x0004;

impl Hash {
    /// From TPM_ALG_ID.
    pub const fn from_algorithm(id: u16) -> Result<Self, HashError> {
        match id {
            0x000B => Ok(Hash::Sha256),
            0x000C => Ok(Hash::Sha384),
            0x000D => Ok(Hash::Sha512),
            other => Err(HashError(other)),
        }
    }

    pub const fn algorithm(self) -> u16 {
        match self {
            Hash::Sha256 => 0x000B,
            Hash::Sha384 => 0x000C,
            Hash::Sha512 => 0x000D,
        }
    }

    /// The hash over the parts, one after the other.
    pub fn digest(self, parts: &[&[u8]]) -> Vec<u8> {
        match self {
            Hash::Sha256 => crate::crypto::sha256(parts).as_bytes().to_vec(),
            Hash::Sha384 => crate::crypto::sha384(parts).as_bytes().to_vec(),
            Hash::Sha512 => crate::crypto::sha512(parts).as_bytes().to_vec(),
        }
    }
}

/// A TPM2B: u16 length and so many bytes, at most `max`.
fn sized<'a>(
    reader: &mut crate::bytes::Reader<'a>,
    what: &'static str,
    max: usize,
) -> Result<&'a [u8], StructureError> {
    let seen = usize::from(reader.u16_be()?);
    if seen > max {
        return Err(StructureError::TooLong { what, seen, max });
    }
    Ok(reader.take(seen)?)
}

/// The bytes do not have the structure's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StructureError {
    #[error(transparent)]
    Read(#[from] crate::bytes::ReadError),
    #[error("{what} has {seen} bytes, at most {max} are allowed")]
    TooLong { what: &'static str, seen: usize, max: usize },
}
