//! The envelope that certificates and revocation lists share: SEQUENCE { what is signed, algorithm, signature }.
//!
//! It is cut out of the received bytes by hand, so that the signature is checked over exactly those. One algorithm is
//! accepted: RSASSA-PSS with SHA-384, MGF1 with SHA-384 and a salt of 48 bytes, which is what AMD uses throughout. Its
//! parameters are compared byte by byte with the two forms that AMD's certificates have; nothing is interpreted.

use super::der::{self, BIT_STRING, DerError, SEQUENCE};
use crate::bytes::Reader;
use crate::crypto::{self, Scheme};

/// RSASSA-PSS, SHA-384 three times, and no trailerField because 1 is its default.
const PSS_SHA384: &[u8] = &[
    0x30, 0x41, 0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x0A, 0x30, 0x34, 0xA0, 0x0F, 0x30, 0x0D,
    0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0xA1, 0x1C, 0x30, 0x1A, 0x06, 0x09,
    0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x08, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03,
    0x04, 0x02, 0x02, 0x05, 0x00, 0xA2, 0x03, 0x02, 0x01, 0x30,
];

/// The same with an explicit trailerField of 1: no DER, but what AMD signed until 2024 and in its CA certificates.
const PSS_SHA384_EXPLICIT_TRAILER: &[u8] = &[
    0x30, 0x46, 0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x0A, 0x30, 0x39, 0xA0, 0x0F, 0x30, 0x0D,
    0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0xA1, 0x1C, 0x30, 0x1A, 0x06, 0x09,
    0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x08, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03,
    0x04, 0x02, 0x02, 0x05, 0x00, 0xA2, 0x03, 0x02, 0x01, 0x30, 0xA3, 0x03, 0x02, 0x01, 0x01,
];

/// Why something signed is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignedError {
    #[error("its signature algorithm is not RSASSA-PSS with SHA-384, MGF1 with SHA-384 and a salt of 48 bytes")]
    Algorithm,
    #[error("its signature does not verify under the key of its issuer")]
    Signature,
}

/// An envelope that was cut, not verified.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signed<'a> {
    /// The bytes that are signed.
    pub(super) body: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Signed<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, DerError> {
        let mut parts = Reader::new(der::only(bytes, SEQUENCE)?);
        let body = der::element(&mut parts, SEQUENCE)?.raw;
        let algorithm = der::element(&mut parts, SEQUENCE)?.raw;
        let mut bits = Reader::new(der::element(&mut parts, BIT_STRING)?.contents);
        parts.finish()?;
        if bits.u8()? != 0 {
            return Err(DerError::Length); // a signature is whole bytes
        }
        Ok(Signed { body, algorithm, signature: bits.remaining() })
    }

    /// `key` is a PKCS#1 `RSAPublicKey` whose size was checked.
    pub(super) fn verify(&self, key: &[u8]) -> Result<(), SignedError> {
        if self.algorithm != PSS_SHA384 && self.algorithm != PSS_SHA384_EXPLICIT_TRAILER {
            return Err(SignedError::Algorithm);
        }
        crypto::verify(Scheme::RsaPssSha384, key, self.body, self.signature).map_err(|_| SignedError::Signature)
    }
}
